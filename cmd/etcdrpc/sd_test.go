package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// TestSD runs sd as Prometheus sees it.
func TestSD(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	etcd.Cut()
	b := openPages(t, etcd, "sd", "acme/", "--listen", "127.0.0.1:0", "--command-timeout", "1s")
	if resp, _ := b.do(http.MethodGet, "/sd", nil, nil); resp.code != http.StatusServiceUnavailable {
		t.Errorf("%d before etcd was read, want 503", resp.code)
	}
	putKey(t, etcd, "acme/user/10.0.0.7:9000", `{"Addr":"10.0.0.7:9000","Metadata":{"version":"v1"}}`)
	putKey(t, etcd, "other/10.0.0.1:1", "10.0.0.1:1")
	etcd.Restore()
	b.await("/sd", `(?s)"10\.0\.0\.7:9000".*"__meta_etcdrpc_version":\s*"v1"`)
	putKey(t, etcd, "acme/user/10.0.0.8:9000", "10.0.0.8:9000")
	putKey(t, etcd, inventory.ConfigPrefix+"acme/user", `{"loadBalancingConfig":[{"etcd":{"drain":["10.0.0.8:9000"],"childPolicy":[{"round_robin":{}}]}}]}`)
	b.await("/", `(?s)"10\.0\.0\.8:9000".*"__meta_etcdrpc_state":\s*"drained"`)

	// While etcd is away the last targets are served; missed changes follow afterwards.
	etcd.Cut()
	putKey(t, etcd, "acme/user/10.0.0.9:9000", "10.0.0.9:9000")
	resp, body := b.do(http.MethodGet, "/sd", nil, nil)
	if resp.header.Get("Content-Type") != "application/json" || !strings.Contains(body, "10.0.0.8") || strings.Contains(body, "10.0.0.9") || strings.Contains(body, "10.0.0.1:1") {
		t.Errorf("%v while etcd is away: %s", resp, body)
	}
	etcd.Restore()
	b.await("/sd", `"10\.0\.0\.9:9000"`)
	if resp, _ := b.do(http.MethodGet, "/sd/x", nil, nil); resp.code != http.StatusNotFound {
		t.Errorf("%d for another path", resp.code)
	}
	// A page of another site that has its name resolve to this address sees nothing.
	if resp, _ := b.do(http.MethodGet, "/sd", nil, func(r *http.Request) { r.Host = "evil.example" }); resp.code != http.StatusMisdirectedRequest {
		t.Errorf("%d by another's name", resp.code)
	}
}
