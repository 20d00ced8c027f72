// Package rehearsal makes a release of this repository in a clone, serves it as a module proxy would, and does with it
// what README and docs say.
package rehearsal
