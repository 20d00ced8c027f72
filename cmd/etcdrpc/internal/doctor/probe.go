package doctor

import (
	"context"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/dialing"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/parallel"
)

// probe connects to each address, and returns why it could not to those that did not answer in time.
func probe(ctx context.Context, dial dialing.Func, addresses []string, timeout time.Duration) map[string]error {
	var mu sync.Mutex
	dead := make(map[string]error)
	parallel.Each(len(addresses), dialing.Most, func(n int) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		conn, err := dial(ctx, "tcp", addresses[n])
		if err == nil {
			conn.Close()
			return
		}
		mu.Lock()
		defer mu.Unlock()
		dead[addresses[n]] = err
	})
	return dead
}
