package runtime

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// Status shows the client's endpoints without their passwords. A server finds
// its address by the endpoints in the client's config, not by those that
// AutoSync sets: a member advertises http://localhost:2379 by default.
func TestEndpoints(t *testing.T) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"http://root:s3cret@127.0.0.1:1"},
	})
	must(t, err)

	defer client.Close()

	registry := NewRegistry(client)
	defer registry.Close(t.Context())

	want := []string{"http://127.0.0.1:1"}
	if got := registry.Status().Etcd.Endpoints; !slices.Equal(got, want) {
		t.Errorf("the endpoints in Status are %q, want %q", got, want)
	}

	client.SetEndpoints("http://localhost:2379") // as AutoSync does

	got := registry.NewServer(grpc.NewServer()).announcement("[::]:1", "tcp").Advertise.Etcd
	if !slices.Equal(got, want) {
		t.Errorf("a server finds its address by %q, want %q", got, want)
	}
}

// TestSilenceDefaultLogger makes requests of etcd clients fail, with and
// without a registry, and checks what the clients write to standard error. A
// logger from the client's config stays.
func TestSilenceDefaultLogger(t *testing.T) {
	own := clientv3.NewCtxClient(t.Context()).GetLogger().Named("mine")
	for _, tt := range []struct {
		name, debug string
		registry    bool
		config      clientv3.Config
		writes      bool
	}{
		{"without a registry", "", false, clientv3.Config{}, true},
		{"with a registry", "", true, clientv3.Config{}, false},
		{"asked to log", "warn", true, clientv3.Config{}, true},
		{"with its own logger", "", true, clientv3.Config{Logger: own}, false},
	} {
		t.Setenv("ETCD_CLIENT_DEBUG", tt.debug)
		file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
		must(t, err)
		before := os.Stderr
		os.Stderr = file // clientv3.New makes a logger on this file
		tt.config.Endpoints = []string{"127.0.0.1:1"}
		client, err := clientv3.New(tt.config)
		os.Stderr = before
		must(t, err)

		if tt.registry {
			must(t,
				NewRegistry(client, WithLogger(slog.New(slog.DiscardHandler))).Close(t.Context()))
		}

		ctx, cancel := context.WithCancel(t.Context())
		cancel()

		if _, err := client.Get(ctx, "a"); err == nil {
			t.Errorf("%s: a request with a canceled context returned no error", tt.name)
		}

		text, err := os.ReadFile(file.Name())
		must(t, errors.Join(err, client.Close(), file.Close()))

		if strings.Contains(string(text), "etcd-client") != tt.writes ||
			(client.GetLogger() == own) != (tt.config.Logger == own) {
			t.Errorf(
				"%s: the client wrote %q to standard error with the logger %v, want a log line: %v",
				tt.name, text, client.GetLogger(), tt.writes)
		}
	}
}
