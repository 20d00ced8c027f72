// Package network is hosts and the connections between them, in memory. Links are cut, stalled and slowed down. It
// waits on channels and timers alone, so that a testing/synctest bubble sees when everything waits.
package network
