// Package versions tests the runtime over the wire, built with any version of its dependencies, against an etcd of any
// version. make versions runs it with the oldest and the newest of each. To run it by hand:
//
//	TEST_ETCD=/usr/bin/etcd go test ./internal/versions
package versions
