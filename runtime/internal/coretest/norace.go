//go:build !race

package coretest

// shallower is how many events less deep walks go than they say.
const shallower = 0
