package balancer

import (
	"fmt"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
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
