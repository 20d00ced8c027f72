// Package readme checks the README: that the files it quotes are those of the quickstart, that its links lead
// somewhere, and that the quickstart fails as it should. Its commands are run by make rehearsal.
package readme
