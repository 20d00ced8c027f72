// Package generator tests the plugin from proto source to the bytes of its output.
//
//	go test .            compare with the committed files
//	go test . -update    write testdata and the options' Go package
package generator
