// Package versions tests the runtime over the wire, built with any version of
// its dependencies, against an etcd of any version. "make versions" runs the
// tests with the oldest and the newest version of each. To run them by hand:
//
//	TEST_ETCD=/usr/bin/etcd go test ./internal/versions
package versions
