//go:build race

package coretest

// shallower is how many events less deep walks go than they say. Cores have no goroutines, so the race detector sees
// nothing in them and slows them down ten times.
const shallower = 1
