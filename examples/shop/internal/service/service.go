// Package service runs the shop's processes, which differ only in the services
// that they register.
package service

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Process is a process before it serves.
type Process struct {
	Server   *runtime.Server
	Registry *runtime.Registry // finds other services
	Dial     grpc.DialOption   // the TLS of calls to them
	Version  string            // of this build, for canaries

	// closed a second after SIGTERM: handlers of long streams then return
	// Unavailable
	Draining <-chan struct{}
}

// Main serves the services that register registers. After SIGTERM, Main returns
// once the calls under way have ended.
func Main(register func(*Process) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	if err := serve(ctx, register); err != nil {
		log.Fatal(err) //nolint:gocritic // the process ends, so stop is not needed
	}
}

func serve(ctx context.Context, register func(*Process) error) error {
	etcd := flag.String("etcd", "", "etcd `endpoints`, separated by commas")
	user := flag.String("user", "", "`name` at etcd")
	secrets := flag.String("secrets", "",
		"`directory` with the user's password, cert.pem, key.pem, and ca.pem of etcd and all services")
	listen := flag.String("listen", "", "`address` to serve on")
	version := flag.String("version", "", "version of this build")
	flag.Parse()

	password, err := os.ReadFile(filepath.Join(*secrets, "password"))
	if err != nil {
		return err
	}

	asServer, err := credentials.NewServerTLSFromFile(
		filepath.Join(*secrets, "cert.pem"), filepath.Join(*secrets, "key.pem"))
	if err != nil {
		return err
	}

	asClient, err := transport.TLSInfo{
		TrustedCAFile: filepath.Join(*secrets, "ca.pem"),
	}.ClientConfig()
	if err != nil {
		return err
	}

	client, err := clientv3.New(clientv3.Config{
		Endpoints:            strings.Split(*etcd, ","),
		TLS:                  asClient,
		Username:             *user,
		Password:             strings.TrimSpace(string(password)),
		DialTimeout:          5 * time.Second,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
	})
	if err != nil {
		return fmt.Errorf("connect to etcd: %w", err)
	}
	defer client.Close()

	registry := runtime.NewRegistry(client)
	defer registry.Close(context.WithoutCancel(ctx))

	draining := make(chan struct{})
	context.AfterFunc(ctx, func() {
		time.AfterFunc(time.Second, func() { close(draining) })
	})

	server := registry.NewServer(grpc.NewServer(grpc.Creds(asServer)))

	p := &Process{
		Server:   server,
		Registry: registry,
		Dial:     grpc.WithTransportCredentials(credentials.NewTLS(asClient)),
		Version:  *version,
		Draining: draining,
	}
	if err := register(p); err != nil {
		return err
	}

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}

	return server.Serve(ctx, listener)
}
