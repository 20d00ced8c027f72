package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

func TestMetricsPort(t *testing.T) {
	named := metricsPort{metadata: "metrics"}
	with := func(addr, port string) endpoint.Endpoint {
		return endpoint.Endpoint{Addr: addr, Metadata: map[string]string{"metrics": port}}
	}
	for _, tc := range []struct {
		name string
		port metricsPort
		e    endpoint.Endpoint
		want string // "" left out
	}{
		{"the instance's own", metricsPort{}, with("10.0.0.7:9000", "1"), "10.0.0.7:9000"},
		{"a number", metricsPort{number: 9100}, with("10.0.0.7:9000", "1"), "10.0.0.7:9100"},
		{"a number of IPv6", metricsPort{number: 9100}, with("[::1]:9000", "1"), "[::1]:9100"},
		{"metadata", named, with("db.example:9000", "9100"), "db.example:9100"},
		{"no metadata", named, endpoint.Endpoint{Addr: "10.0.0.7:9000"}, ""},
		{"metadata that is no port", named, with("10.0.0.7:9000", "9100/admin"), ""},
		{"metadata that is an address", named, with("10.0.0.7:9000", "evil.example:80"), ""},
		{"metadata that is too great", named, with("10.0.0.7:9000", "65536"), ""},
	} {
		got, ok := tc.port.of(&tc.e)
		if got != tc.want || ok != (tc.want != "") {
			t.Errorf("%s: %q, %v; want %q", tc.name, got, ok, tc.want)
		}
	}
}

func TestTargetsOf(t *testing.T) {
	value := `{"Addr":"10.0.0.7:9000","Metadata":{"version":"v1","zone":"eu","weight":3,"team.name":"blue","team-name":"","größe":"1"}}`
	groups := targetsOf(surveyAll([]entry{
		{key: "acme/user/a", value: []byte(value), lease: 1, createRevision: 1},
		{key: "acme/user/b", value: []byte("10.0.0.8:9000"), lease: 1, createRevision: 2},
		{key: "acme/user/c", value: []byte("10.0.0.8:9000"), lease: 1, createRevision: 1}, // an older entry of b's address
		{key: "acme/user/d", value: []byte(`{"Addr":"10.0.0.9:9000","Metadata":{"grpc_leaving":"true"}}`), lease: 1},
		{key: "acme/user/e", value: []byte("nonsense"), lease: 1},
		{key: "config/db/primary", value: []byte("db:5432")},
		{key: configPrefix + "acme/user", value: []byte(`{"loadBalancingConfig":[{"etcd":{"drain":["b"],"childPolicy":[{"round_robin":{}}]}}]}`)},
	}), metricsPort{})
	want := []targetGroup{
		{[]string{"10.0.0.7:9000"}, map[string]string{
			"__meta_etcdrpc_key": "acme/user", "__meta_etcdrpc_instance": "a", "__meta_etcdrpc_address": "10.0.0.7:9000", "__meta_etcdrpc_layout": "endpoint_json",
			"__meta_etcdrpc_state": "registered", "__meta_etcdrpc_version": "v1", "__meta_etcdrpc_zone": "eu", "__meta_etcdrpc_weight": "3",
			"__meta_etcdrpc_metadata_team_name": "blue", "__meta_etcdrpc_metadata_gr__e": "1"}},
		{[]string{"10.0.0.8:9000"}, map[string]string{
			"__meta_etcdrpc_key": "acme/user", "__meta_etcdrpc_instance": "b", "__meta_etcdrpc_address": "10.0.0.8:9000", "__meta_etcdrpc_layout": "plain",
			"__meta_etcdrpc_state": "drained"}},
	}
	if !reflect.DeepEqual(groups, want) {
		t.Errorf("got\n%v\nwant\n%v", groups, want)
	}
	if none := targetsOf(nil, metricsPort{}); none == nil {
		t.Error("no targets are null, not a list")
	}
}

func TestCatalog(t *testing.T) {
	c := newCatalog(2, metricsPort{})
	put := func(key, value string) *clientv3.Event {
		return &clientv3.Event{Type: mvccpb.PUT, Kv: &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), Lease: 1}}
	}
	targets := func() (all []string) {
		t.Helper()
		text, known, err := c.json()
		if err != nil || !known {
			t.Fatal(known, err)
		}
		var groups []targetGroup
		if err := json.Unmarshal(text, &groups); err != nil {
			t.Fatal(err)
		}
		for _, g := range groups {
			all = append(all, g.Targets...)
		}
		return all
	}
	c.replace(0, []entry{{key: "acme/user/a", value: []byte("10.0.0.7:1"), lease: 1}})
	if _, known, _ := c.json(); known {
		t.Error("the targets are known before the live configs are")
	}
	c.replace(1, nil)
	if got := targets(); !slices.Equal(got, []string{"10.0.0.7:1"}) {
		t.Errorf("after the list: %q", got)
	}
	c.apply(0, []*clientv3.Event{put("acme/user/b", "10.0.0.8:1"), {Type: mvccpb.DELETE, Kv: &mvccpb.KeyValue{Key: []byte("acme/user/a")}}})
	if got := targets(); !slices.Equal(got, []string{"10.0.0.8:1"}) {
		t.Errorf("after a change: %q", got)
	}
	c.apply(0, []*clientv3.Event{put("acme/user/c", strings.Repeat("x", 2*endpoint.MaxValue))})
	if got := len(c.parts[0]["acme/user/c"].value); got > endpoint.MaxValue+1 {
		t.Errorf("%d bytes are kept of a value that is too long", got)
	}
	c.replace(0, nil)
	if text, _, _ := c.json(); string(text) != "[]" {
		t.Errorf("no targets are %s", text)
	}
}

// prometheusGroup is a group as https://prometheus.io/docs/prometheus/latest/http_sd/ describes it.
type prometheusGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

var prometheusLabel = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// targetsCmd waits until the sd that runs names exactly the targets given.
func targetsCmd(ts *testscript.TestScript, _ bool, args []string) {
	w := in(ts)
	text, _ := w.follow.read()
	match := regexp.MustCompile(`at (http://\S+)`).FindStringSubmatch(text)
	if match == nil {
		ts.Fatalf("nothing is served:\n%s", text)
	}
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	for {
		groups, _ := refreshed(w.t, match[1])
		var got []string
		for _, g := range groups {
			got = append(got, g.Targets...)
		}
		if slices.Equal(got, args) {
			return
		}
		if ctx.Err() != nil {
			ts.Fatalf("the targets are %q", got)
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// refreshed is what Prometheus would make of an answer.
func refreshed(t testing.TB, url string) (groups []prometheusGroup, status int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
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
	etcd := etcdtest.Start(t)
	etcd.Cut()
	f := startFollower(newApp(), []string{"sd", "acme/", "--listen", "127.0.0.1:0", "--command-timeout", "1s", "--endpoints", strings.Join(etcd.Endpoints(), ",")})
	defer f.stop()
	if err := f.wait(regexp.MustCompile(`at (http://\S+)`)); err != nil {
		t.Fatal(err)
	}
	text, _ := f.read()
	url := regexp.MustCompile(`at (http://\S+)`).FindStringSubmatch(text)[1]
	if _, status := refreshed(t, url); status != http.StatusServiceUnavailable {
		t.Errorf("%d before etcd was read, want 503", status)
	}
	put := func(key, value string) {
		t.Helper()
		if _, err := etcd.Admin().Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	await := func(what string, ok func([]prometheusGroup) bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		for {
			groups, _ := refreshed(t, url)
			if ok(groups) {
				return
			}
			if ctx.Err() != nil {
				t.Fatalf("%s: %v", what, groups)
			}
			pause(ctx, 10*time.Millisecond)
		}
	}
	put("acme/user/10.0.0.7:9000", `{"Addr":"10.0.0.7:9000","Metadata":{"version":"v1"}}`)
	put("other/10.0.0.1:1", "10.0.0.1:1")
	etcd.Restore()
	await("the first list", func(g []prometheusGroup) bool {
		return len(g) == 1 && g[0].Targets[0] == "10.0.0.7:9000" && g[0].Labels["__meta_etcdrpc_version"] == "v1"
	})
	put("acme/user/10.0.0.8:9000", "10.0.0.8:9000")
	await("one that came", func(g []prometheusGroup) bool { return len(g) == 2 })
	put(configPrefix+"acme/user", `{"loadBalancingConfig":[{"etcd":{"drain":["10.0.0.8:9000"],"childPolicy":[{"round_robin":{}}]}}]}`)
	await("a drain", func(g []prometheusGroup) bool { return g[1].Labels["__meta_etcdrpc_state"] == "drained" })

	if n := etcd.Calls().Count(etcdtest.Watch, ""); n != 2 {
		t.Errorf("%d watches, want one of the entries and one of the live policies", n)
	}
	etcd.Calls().Reset()
	for range 100 {
		refreshed(t, strings.TrimSuffix(url, "sd"))
	}
	if n := etcd.Calls().Count(etcdtest.Range, ""); n > 0 {
		t.Errorf("100 answers took %d requests to etcd", n)
	}

	// What was known last is kept while etcd is away, and what was missed is seen after.
	etcd.Cut()
	put("acme/user/10.0.0.9:9000", "10.0.0.9:9000")
	if g, _ := refreshed(t, url); len(g) != 2 {
		t.Errorf("%v while etcd is away", g)
	}
	etcd.Restore()
	await("one that came meanwhile", func(g []prometheusGroup) bool { return len(g) == 3 })
	if _, status := refreshed(t, url+"/x"); status != http.StatusNotFound {
		t.Errorf("%d for another path", status)
	}
	// A page of another site that has its name resolve to this address sees nothing.
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "evil.example"
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("%d by the name %s", answer.StatusCode, request.Host)
	}
	f.stop()
	if code := <-f.code; code != 0 {
		t.Errorf("it ended with %d", code)
	}
}
