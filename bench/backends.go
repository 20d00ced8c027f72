package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
)

// maxBackends is how many backends a process of them has.
const maxBackends = 4096

// farm is a process that serves at every loopback address, by one port, so that it can be any number of
// backends and its CPU time is not its clients'.
type farm struct {
	proc *proc
	port string
}

func startFarm() (*farm, error) {
	p, err := spawn(params{Role: "backends"})
	if err != nil {
		return nil, err
	}
	port, err := p.line(patience)
	if err != nil {
		p.end()
		return nil, err
	}
	return &farm{p, port}, nil
}

// addr is the address of the backend i.
func (f *farm) addr(i int) string { return fmt.Sprintf("127.1.%d.%d:%s", i>>8, i&255, f.port) }

func (f *farm) addrs(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = f.addr(i)
	}
	return all
}

// visits returns what the backends from the index from on have seen since they were asked last.
func (f *farm) visits(from, n int) ([]visits, error) {
	if err := f.proc.tell(); err != nil {
		return nil, err
	}
	line, err := f.proc.line(patience)
	if err != nil {
		return nil, err
	}
	seen := make(map[string]visits)
	if err := json.Unmarshal([]byte(line), &seen); err != nil {
		return nil, err
	}
	all := make([]visits, n)
	for i := range all {
		all[i] = seen[strconv.Itoa(from+i)]
	}
	return all, nil
}

// visits are the calls that a backend has answered.
type visits struct {
	First, Last int64 // when they arrived, in nanoseconds of Unix time; 0: never
	Stale       int64 // that began when its withdrawal had to be known; see seer
}

// backend counts its visits.
type backend struct{ first, last, stale atomic.Int64 }

// backends answers calls to any of them. A call's field service names the first backend that was yet to be
// withdrawn when it began, "" 0.
type backends struct {
	grpc_health_v1.UnimplementedHealthServer
	all [maxBackends]backend
}

func (b *backends) Check(ctx context.Context, in *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	now := time.Now().UnixNano()
	known := 0
	if in.Service != "" {
		var err error
		if known, err = strconv.Atoi(in.Service); err != nil {
			return nil, err
		}
	}
	from, _ := peer.FromContext(ctx)
	ip := from.LocalAddr.(*net.TCPAddr).IP.To4()
	i := int(ip[2])<<8 | int(ip[3])
	visited := &b.all[i]
	visited.first.CompareAndSwap(0, now)
	for last := visited.last.Load(); last < now && !visited.last.CompareAndSwap(last, now); {
		last = visited.last.Load()
	}
	if i < known {
		visited.stale.Add(1)
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

// take returns the visits since it was called last, by backend.
func (b *backends) take() map[int]visits {
	all := make(map[int]visits)
	for i := range b.all {
		if v := (visits{b.all[i].first.Swap(0), b.all[i].last.Swap(0), b.all[i].stale.Swap(0)}); v.First != 0 {
			all[i] = v
		}
	}
	return all
}

// childBackends serves, and answers each line with the visits.
func childBackends(c *child) (map[string]float64, error) {
	lis, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		return nil, err
	}
	b := &backends{}
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, b)
	go func() { _ = s.Serve(lis) }() // until the process ends
	_, port, err := net.SplitHostPort(lis.Addr().String())
	if err != nil {
		return nil, err
	}
	for word := port; ; {
		if err := c.meet(word); err != nil {
			return nil, err
		}
		text, err := json.Marshal(b.take())
		if err != nil {
			return nil, err
		}
		word = string(text)
	}
}
