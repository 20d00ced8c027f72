// Package generator tests the plugin from proto source to the bytes it writes. It
// is a module of its own for the compiler that this takes.
//
//	go test .            compare with what is committed in testdata
//	go test . -update    write testdata and the options' Go package anew
package generator
