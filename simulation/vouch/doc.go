// Package vouch holds the tests by which the real etcd vouches for the model of it.
package vouch
