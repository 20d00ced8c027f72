package scenarios

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
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

func (b *bench) startFarm() (*farm, error) {
	p, err := b.spawn(params{Role: "backends"})
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
	seen := make(map[string]visits)
	if err := f.proc.ask(&seen); err != nil {
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
	Stale       int64 // that began when its withdrawal had to be known; see the scenario joins
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
	b := &backends{}
	at, err := serveAt("0.0.0.0:0", b)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		return nil, err
	}
	return nil, c.answer(port, func() (any, error) { return b.take(), nil })
}

// serving answers calls at once.
type serving struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (serving) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

// serveAt answers calls at an address until the process ends, and returns the address with its port.
func serveAt(addr string, health grpc_health_v1.HealthServer) (string, error) {
	lis, err := net.Listen("tcp4", addr)
	if err != nil {
		return "", err
	}
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, health)
	go func() { _ = s.Serve(lis) }() // until the process ends
	return lis.Addr().String(), nil
}

// serve starts n backends and returns their addresses.
func serve(n int) ([]string, error) {
	var addrs []string
	for range n {
		addr, err := serveAt("127.0.0.1:0", serving{})
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// zeroKey is where go-zero finds the backends: it would take the other style's values for addresses.
const zeroKey = "zero/" + serviceKey

// backendsKey returns the key at which a peer finds what putBackends has put for it.
func backendsKey(peer string) string {
	if peer == peerGoZero {
		return zeroKey
	}
	return serviceKey
}

// putBackends registers addresses in a peer's style, without a lease.
func putBackends(ctx context.Context, client *clientv3.Client, peer string, addrs []string) error {
	style := styleAt(peer, backendsKey(peer), func(i int) string { return addrs[i] })
	return putAll(ctx, client, style, 0, len(addrs))
}
