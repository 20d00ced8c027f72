//go:build !race

package main

// racing reports whether the race detector slows everything down.
const racing = false
