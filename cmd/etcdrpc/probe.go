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
	var (
		mu      sync.Mutex
		dead    = make(map[string]error)
		running sync.WaitGroup
		slots   = make(chan struct{}, dials)
	)
	for _, addr := range addresses {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			conn, err := dial(ctx, "tcp", addr)
			if err == nil {
				conn.Close()
				return
			}
			mu.Lock()
			defer mu.Unlock()
			dead[addr] = err
		})
	}
	running.Wait()
	return dead
}
