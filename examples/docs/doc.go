// Package docs checks the pages in docs: their commands are run, their Go is compiled, their proto
// is generated from, their service configs are validated, and their links lead somewhere.
package docs
