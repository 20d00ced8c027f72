package main

import (
	"context"
	"net"
	"sync"
	"time"
)

// dials bounds the connections that are tried at once.
const dials = 64

// dialer opens a TCP connection.
type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// probe connects to each address, and returns why it could not to those that did not answer in time.
func probe(ctx context.Context, dial dialer, addresses []string, timeout time.Duration) map[string]error {
	var mu sync.Mutex
	dead := make(map[string]error)
	each(len(addresses), dials, func(n int) {
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
