// Package network is hosts and the connections between them, in memory. Links are cut, stalled and slowed down. It
// waits on conditions, channels and timers alone, so that a testing/synctest bubble sees when everything waits; a
// network used in a bubble must be made in it.
package network
