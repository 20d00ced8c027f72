package balancer

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/descriptors"
)

// dead returns servers that nobody runs.
func dead(n int) []*server {
	var all []*server
	for i := range n {
		s := &server{Endpoint: endpoint.Endpoint{Instance: fmt.Sprintf("dead%04d", i), Addr: fmt.Sprintf("127.1.%d.%d:1", i/250, 1+i%250)}}
		all = append(all, s)
	}
	return all
}

// ring has calls tied to keys.
const ring = `"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}]`

var errNoneFree = errors.New("none is free")

// budget returns a budget, and how often it was said to be reached.
func budget(limit int) (*descriptors.Budget, *atomic.Int64) {
	reached := new(atomic.Int64)
	return descriptors.NewBudget(limit, errNoneFree, func(int) { reached.Add(1) }), reached
}
