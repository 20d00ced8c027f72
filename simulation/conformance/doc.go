// Package conformance holds the tests by which the model of etcd is compared with the real one. With -short there is one script.
package conformance
