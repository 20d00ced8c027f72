package main

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// TestConsole shows what is there and what becomes of it, and hostile text as text.
func TestConsole(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	hostileWorld(t, etcd)
	settings := settings{endpoints: etcd.Endpoints(), dialTimeout: soon, commandTimeout: soon}
	s, err := settings.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	c := console.New(s, etcdText(s), log.New(t.Output(), "", 0))
	ended := make(chan struct{})
	go func() { c.Run(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()
	server := httptest.NewServer(c)
	defer server.Close()
	get := func(path, tag string) (*http.Response, string) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("If-None-Match", tag)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp, string(body)
	}
	await := func(path, want string) (resp *http.Response) {
		t.Helper()
		body := ""
		for until := time.Now().Add(soon); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
			if resp, body = get(path, ""); regexp.MustCompile(want).MatchString(body) {
				if strings.Contains(body, "<script>alert") {
					t.Error("a page runs what etcd holds")
				}
				checkShown(t, path, strings.ReplaceAll(body, "\t", ""))
				return resp
			}
		}
		t.Fatalf("%s does not show %s:\n%.3000s", path, want, body)
		return nil
	}
	await("/", `href="/service\?key=acme%2fuser"`)
	await("/service?key=acme%2Fuser&q=plain", `<td class="registered">`)
	putKey(t, etcd, "shop/cart/10.0.0.7:9000", `{"Addr":"10.0.0.7:9000","Metadata":{"version":"v9"}}`)
	resp := await("/?q=cart+v9", `shop/cart`)
	if again, _ := get("/?q=cart+v9", resp.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
		t.Errorf("a page that has not changed is sent again: %d", again.StatusCode)
	}
	putKey(t, etcd, "_grpc_config/shop/cart", `{"loadBalancingConfig":[{"etcd":{"split":[{"match":{"version":"v9"},"weight":1}],"childPolicy":[{"round_robin":{}}]}}]}`)
	await("/service?key=shop/cart", `100\.0 %`)
	if resp, _ := get("/service?key=nobody", ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("nobody: %d", resp.StatusCode)
	}
}
