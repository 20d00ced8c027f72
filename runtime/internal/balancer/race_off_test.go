//go:build !race

package balancer

const underRace = false
