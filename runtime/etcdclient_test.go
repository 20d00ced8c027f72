package runtime

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Status shows the client's endpoints without their passwords.
func TestEndpointsWithAPassword(t *testing.T) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://root:s3cret@127.0.0.1:1"}})
	must(t, err)
	defer client.Close()
	registry := NewRegistry(client)
	defer registry.Close(t.Context())
	if got := registry.Status().Etcd.Endpoints; !slices.Equal(got, []string{"http://127.0.0.1:1"}) {
		t.Errorf("the endpoints in Status are %q, want %q", got, "http://127.0.0.1:1")
	}
}

// TestSilenceDefaultLogger makes requests of etcd clients fail, with and without a registry, and checks what the clients write
// to standard error.
func TestSilenceDefaultLogger(t *testing.T) {
	for _, tt := range []struct {
		name, debug string
		registry    bool
		writes      bool
	}{
		{"without a registry", "", false, true},
		{"with a registry", "", true, false},
		{"asked to log", "warn", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("ETCD_CLIENT_DEBUG", tt.debug)
			written := standardError(t)
			client := away(t)
			if tt.registry {
				r := NewRegistry(client, WithLogger(slog.New(slog.DiscardHandler)))
				t.Cleanup(func() { _ = r.Close(context.Background()) })
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := client.Get(ctx, "a"); err == nil {
				t.Fatal("a request with a canceled context returned no error")
			}
			if text := written(); strings.Contains(text, "etcd-client") != tt.writes {
				t.Errorf("the client wrote %q to standard error, want a log line: %v", text, tt.writes)
			}
		})
	}
}

// TestSilenceDefaultLogger_KeepsOwnLogger checks that a logger from the client's config stays.
func TestSilenceDefaultLogger_KeepsOwnLogger(t *testing.T) {
	own := clientv3.NewCtxClient(t.Context()).GetLogger().Named("mine")
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}, Logger: own})
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	r := NewRegistry(client)
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	if client.GetLogger() != own {
		t.Error("NewRegistry replaced the logger from the client's config")
	}
}

// standardError redirects standard error to a file until the test ends. written returns the file's content.
func standardError(t *testing.T) (written func() string) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	must(t, err)
	before := os.Stderr
	os.Stderr = file
	t.Cleanup(func() { os.Stderr = before; _ = file.Close() })
	return func() string {
		text, err := os.ReadFile(file.Name())
		must(t, err)
		return string(text)
	}
}
