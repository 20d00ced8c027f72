// Package generator tests the plugin from proto source to the bytes it writes.
//
//	go test .            compare with what is committed
//	go test . -update    write testdata, the options' Go package and docs/options.md anew
package generator
