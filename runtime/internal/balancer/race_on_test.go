//go:build race

package balancer

// racing reports whether the race detector slows everything down.
const racing = true
