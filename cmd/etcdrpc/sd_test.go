package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// prometheusGroup is a group as https://prometheus.io/docs/prometheus/latest/http_sd/ describes it.
type prometheusGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// servedAt is where sd says that it serves.
var servedAt = regexp.MustCompile(`at (http://\S+)`)

var prometheusLabel = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// awaitTargets asks for the targets until they are as wanted.
func awaitTargets(t testing.TB, url string, ok func([]prometheusGroup) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for {
		groups, _ := refreshed(t, url)
		if ok(groups) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the targets are %v", groups)
		}
		store.Pause(ctx, 10*time.Millisecond)
	}
}

// refreshed is what Prometheus would make of an answer, if it asks by the name of the URL, or by another.
func refreshed(t testing.TB, url string, host ...string) (groups []prometheusGroup, status int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = strings.Join(host, "")
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, resp.StatusCode
	}
	if got := resp.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("the content is %q", got)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&groups); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	for _, g := range groups {
		for name := range g.Labels {
			if !prometheusLabel.MatchString(name) {
				t.Errorf("%q is no name of a label", name)
			}
		}
	}
	return groups, resp.StatusCode
}

// TestSD runs sd as Prometheus sees it.
func TestSD(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	etcd.Cut()
	f := startFollower(newApp(), at(etcd, "sd", "acme/", "--listen", "127.0.0.1:0", "--command-timeout", "1s"))
	defer f.stop()
	if err := f.wait(`at http://`); err != nil {
		t.Fatal(err)
	}
	url := servedAt.FindStringSubmatch(f.String())[1]
	if _, status := refreshed(t, url); status != http.StatusServiceUnavailable {
		t.Errorf("%d before etcd was read, want 503", status)
	}
	putKey(t, etcd, "acme/user/10.0.0.7:9000", `{"Addr":"10.0.0.7:9000","Metadata":{"version":"v1"}}`)
	putKey(t, etcd, "other/10.0.0.1:1", "10.0.0.1:1")
	etcd.Restore()
	awaitTargets(t, url, func(g []prometheusGroup) bool {
		return len(g) == 1 && g[0].Targets[0] == "10.0.0.7:9000" && g[0].Labels["__meta_etcdrpc_version"] == "v1"
	})
	putKey(t, etcd, "acme/user/10.0.0.8:9000", "10.0.0.8:9000")
	awaitTargets(t, url, func(g []prometheusGroup) bool { return len(g) == 2 })
	putKey(t, etcd, inventory.ConfigPrefix+"acme/user", `{"loadBalancingConfig":[{"etcd":{"drain":["10.0.0.8:9000"],"childPolicy":[{"round_robin":{}}]}}]}`)
	awaitTargets(t, url, func(g []prometheusGroup) bool { return g[1].Labels["__meta_etcdrpc_state"] == "drained" })
	putKey(t, etcd, "acme/user/gone", "10.0.0.9:9000")
	awaitTargets(t, url, func(g []prometheusGroup) bool { return len(g) == 3 })
	deleteKey(t, etcd, "acme/user/gone")
	awaitTargets(t, url, func(g []prometheusGroup) bool { return len(g) == 2 })

	etcd.Calls().Reset()
	for range 100 {
		refreshed(t, strings.TrimSuffix(url, "sd"))
	}
	if n := etcd.Calls().Count(etcdtest.Range, ""); n >= 100 { // a few are those of the watches, whose silence is looked into
		t.Errorf("100 answers took %d requests to etcd", n)
	}

	// While etcd is away the last targets are served; missed changes follow afterwards.
	etcd.Cut()
	putKey(t, etcd, "acme/user/10.0.0.9:9000", "10.0.0.9:9000")
	if g, _ := refreshed(t, url); len(g) != 2 {
		t.Errorf("%v while etcd is away", g)
	}
	etcd.Restore()
	awaitTargets(t, url, func(g []prometheusGroup) bool { return len(g) == 3 })
	if _, status := refreshed(t, url+"/x"); status != http.StatusNotFound {
		t.Errorf("%d for another path", status)
	}
	// A page of another site that has its name resolve to this address sees nothing.
	if _, status := refreshed(t, url, "evil.example"); status != http.StatusMisdirectedRequest {
		t.Errorf("%d by another's name", status)
	}
	f.stop()
	if code := <-f.code; code != 0 {
		t.Errorf("it ended with %d", code)
	}
}
