package scenarios

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
)

// GoZero is what a process needs of go-zero, by the addresses of etcd's members. The program cmd/gozero has it and no
// other, for go-zero reads the load of the machine all the time in every process that links it.
type GoZero interface {
	// Connect makes the etcd client that all else in the process shares.
	Connect(etcd []string) error
	// Builder returns a builder of resolvers that find all endpoints.
	Builder(etcd []string) resolver.Builder
	// Dial connects as go-zero's users do.
	Dial(etcd []string, key string, opts ...grpc.DialOption) (*grpc.ClientConn, error)
	// Publish registers an address until stop is called.
	Publish(etcd []string, key, addr string) (stop func(), err error)
}

// goZero is nil in processes that are not go-zero's.
var goZero GoZero
