// Package docs checks README.md and the pages in docs: that their links lead somewhere, their commands run, their Go
// compiles, their proto generates, their service configs are valid, and the files that they quote are those of the
// quickstart.
package docs
