// Package versions tests the runtime, built with any version of its dependencies, over the wire against an etcd
// server of any version. make versions runs it with the oldest and the newest of each; by hand:
//
//	TEST_ETCD=/usr/bin/etcd go test ./...
package versions
