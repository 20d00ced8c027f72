// Package etcd is a model of an etcd cluster behind the gRPC services that etcd's client calls. Package vouch has the
// real etcd vouch for it.
package etcd
