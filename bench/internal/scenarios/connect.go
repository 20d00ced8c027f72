package scenarios

import (
	"context"
	"net"
	"net/http"

	connectgo "connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
	"github.com/etcdrpc/protoc-gen-go-etcd/connectetcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// The clients of one Connect server.
const (
	peerConnectGRPC = "Connect over net/http, gRPC"
	peerConnect     = "Connect over net/http, Connect"
)

var connectScenario = &Scenario{
	run: runConnect,
	Scenario: report.Scenario{
		Name: "connect", Title: "unary calls of connect-go",
		About: "Health checks of one Connect server over HTTP/2 without TLS, client and server in one process, the clients taking turns of 100 calls. This project's has found the server in etcd; net/http was given its URL, and speaks the protocol that is named.",
		Peers: connectCallers, Base: peerConnectGRPC,
		Metrics: []metric{
			{Name: "µs a call", Ratio: true},
			{Name: "CPU µs a call", Ratio: true},
			{Name: "allocations a call", Ratio: true},
		},
		Targets: []target{
			{Case: "1 server", Metric: "µs a call", Limit: 1.1, Of: []string{peerConnectGRPC}},
		},
	},
}

var connectCallers = []string{peerConnectGRPC, peerOurs, peerConnect}

func runConnect(ctx context.Context, b *bench) error {
	return b.inTurns(ctx, "connect", "1 server", connectCallers, rpcTurns, "µs a call", "CPU µs a call", "allocations a call")
}

func childConnect(c *child) (map[string]float64, error) {
	etcd, err := c.client()
	if err != nil {
		return nil, err
	}
	addr, err := serveConnect()
	if err != nil {
		return nil, err
	}
	clients, err := connectClients(runtime.NewRegistry(etcd), addr)
	if err != nil {
		return nil, err
	}
	calls := make(map[string]func() error)
	for peer, client := range clients {
		calls[peer] = func() error {
			_, err := client.Check(context.Background(), &grpchealth.CheckRequest{})
			return err
		}
	}
	took, err := c.takeTurns(calls)
	if err != nil {
		return nil, err
	}
	values := make(map[string]float64)
	for peer, t := range took {
		values[peer+" µs a call"] = results.Median(t.wall)
		values[peer+" CPU µs a call"] = results.Median(t.cpu)
		values[peer+" allocations a call"] = results.Median(t.mallocs)
	}
	return values, nil
}

// serveConnect serves Connect's health service for as long as the process lives, and returns its address.
func serveConnect() (string, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	mux := http.NewServeMux()
	mux.Handle(grpchealth.NewHandler(grpchealth.NewStaticChecker()))
	server := &http.Server{Handler: mux, Protocols: unencrypted()}
	go func() { _ = server.Serve(lis) }() // ends with the process
	return lis.Addr().String(), nil
}

// unencrypted returns HTTP/2 without TLS.
func unencrypted() *http.Protocols {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	return &p
}

// connectClients returns a client for each peer.
func connectClients(registry *runtime.Registry, addr string) (map[string]*grpchealth.Client, error) {
	const key = "bench/connect"
	if _, err := registry.Register(context.Background(), key, runtime.Endpoint{Addr: addr}); err != nil {
		return nil, err
	}
	conn, err := registry.NewClient(&runtime.ServiceDesc{Name: grpchealth.HealthV1ServiceName, Key: key},
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	web := &http.Client{Transport: &http.Transport{Protocols: unencrypted()}}
	return map[string]*grpchealth.Client{
		peerOurs:        grpchealth.NewClient(connectetcd.NewHTTPClient(conn), "http://any", connectgo.WithGRPC()),
		peerConnectGRPC: grpchealth.NewClient(web, "http://"+addr, connectgo.WithGRPC()),
		peerConnect:     grpchealth.NewClient(web, "http://"+addr),
	}, nil
}
