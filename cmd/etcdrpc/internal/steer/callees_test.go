package steer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// calledService has instances a, b, c and so on with the values given, and a live config unless that is "".
func calledService(config string, values ...string) *survey.Service {
	s := &survey.Service{Key: "acme/user"}
	for n, value := range values {
		s.Add(survey.Entry{Key: "acme/user/" + string(rune('a'+n)), Value: []byte(value), CreateRevision: int64(n + 1), ModRevision: int64(n + 1)})
	}
	if config != "" {
		s.Config = &survey.Entry{Key: survey.ConfigPrefix + s.Key, Value: []byte(config)}
	}
	return s
}

func ids(instances []survey.Instance) (all []string) {
	for _, i := range instances {
		all = append(all, i.Instance)
	}
	slices.Sort(all)
	return all
}

// TestCallees tells which instances are called, a line a rule.
func TestCallees(t *testing.T) {
	const drainA = `{"loadBalancingConfig":[{"etcd":{"drain":["a"],"childPolicy":[{"round_robin":{}}]}}]}`
	const splitV1 = `{"loadBalancingConfig":[{"etcd":{"split":[{"match":{"version":"v1"},"weight":1}],"childPolicy":[{"round_robin":{}}]}}]}`
	const a, b = "10.0.0.7:1", "10.0.0.8:1"
	for _, tc := range []struct {
		name      string
		s         *survey.Service
		one, each string // "" none
	}{
		{"all without a policy", calledService("", a, b), "a b", "a b"},
		{"one an address", calledService("", a, a), "b", "b"},
		{"none that is drained", calledService(drainA, a, b), "b", "b"},
		{"a drain of all is ignored", calledService(drainA, a), "a", "a"},
		{"none that is drained under another id", calledService(drainA, a, a, b), "b c", "b c"},
		{"a broken policy is ignored", calledService(`{`, a, b), "a b", "a b"},
		{"none without a share, but for each", calledService(splitV1, `{"Addr":"10.0.0.7:1","Metadata":{"version":"v1"}}`, b), "a", "a b"},
		{"none that is malformed", calledService("", a, "nonsense"), "a", "a"},
		{"none that leaves", calledService("", a, `{"Addr":"10.0.0.8:1","Metadata":{"grpc_leaving":"true"}}`), "a", "a"},
		{"none that serves other methods", calledService("", `{"Addr":"10.0.0.7:1","Metadata":{"grpc_methods":"acme.Users/List"}}`, b), "b", "b"},
		{"one that serves the method", calledService("", `{"Addr":"10.0.0.7:1","Metadata":{"grpc_methods":"acme.Users/List,Get"}}`), "a", "a"},
		{"nothing there", calledService(""), "", ""},
	} {
		one, errOne := Callees(tc.s, Caller{Method: "Get"}, rand.Float64)
		each, _, errEach := EveryCallee(tc.s, "Get")
		if got := strings.Join(ids(one), " "); got != tc.one || (errOne != nil) != (tc.one == "") {
			t.Errorf("%s: calls one of %q, %v; want %q", tc.name, got, errOne, tc.one)
		}
		if got := strings.Join(ids(each), " "); got != tc.each || (errEach != nil) != (tc.each == "") {
			t.Errorf("%s: calls each of %q, %v; want %q", tc.name, got, errEach, tc.each)
		}
	}
}

func TestCallees_Shares(t *testing.T) {
	s := calledService(`{"loadBalancingConfig":[{"etcd_weighted":{}}]}`, `{"Addr":"10.0.0.7:1","Metadata":{"weight":90}}`, `{"Addr":"10.0.0.8:1","Metadata":{"weight":10}}`)
	random := rand.New(rand.NewPCG(1, 2))
	const calls = 2000
	first := 0
	for range calls {
		callees, err := Callees(s, Caller{Method: "Get"}, random.Float64)
		if err != nil || len(callees) != 2 {
			t.Fatal(callees, err)
		}
		if callees[0].Instance == "a" {
			first++
		}
	}
	if share := float64(first) / calls; share < 0.87 || share > 0.93 {
		t.Errorf("the instance with nine tenths of the weight is called first %.3f of the time", share)
	}
}

// TestCallees_Infrastructure calls what no instance says that it serves, such as the health check.
func TestCallees_Infrastructure(t *testing.T) {
	s := calledService("", `{"Addr":"10.0.0.7:1","Metadata":{"grpc_methods":"acme.Users/Get"}}`)
	for _, method := range []string{"grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Check"} {
		if callees, err := Callees(s, Caller{Method: method}, rand.Float64); err != nil || len(callees) != 1 {
			t.Errorf("%s: %v, %v", method, callees, err)
		}
	}
	if callees, err := Callees(s, Caller{Method: "acme.Other/Get"}, rand.Float64); err == nil {
		t.Errorf("a method that no instance serves: %v", callees)
	}
}

// TestCallees_Method goes by the method after the lane and before the split, as clients do.
func TestCallees_Method(t *testing.T) {
	const canary = `"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":0}]`
	const lanes, strict = `"route":[{"label":"lane"}]`, `"route":[{"label":"lane","strict":true}]`
	of := func(methods, more string) string { return `"grpc_methods":"acme.Users/` + methods + `",` + more }
	for _, tt := range []struct {
		name, policy, lane string
		a, b               string // metadata
		want               string // "" none
	}{
		{"a canary without a share", canary, "", of("List", `"version":"v1"`), of("List,Get", `"version":"v2"`), "b"},
		{"a canary beside who serves it", canary, "", of("List,Get", `"version":"v1"`), of("List,Get", `"version":"v2"`), "a"},
		{"a lane with the method", lanes, "pr", of("List,Get", `"lane":""`), of("List,Get", `"lane":"pr"`), "b"},
		{"a lane without it", lanes, "pr", of("List,Get", `"lane":""`), of("List", `"lane":"pr"`), "a"},
		{"a strict lane without it", strict, "pr", of("List,Get", `"lane":""`), of("List", `"lane":"pr"`), ""},
		{"a base without it", lanes, "", of("List", `"lane":""`), of("List,Get", `"lane":"pr"`), ""},
	} {
		config := `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}],` + tt.policy + `}}]}`
		s := calledService(config, `{"Addr":"10.0.0.7:1","Metadata":{`+tt.a+`}}`, `{"Addr":"10.0.0.8:1","Metadata":{`+tt.b+`}}`)
		callees, err := Callees(s, Caller{Lane: tt.lane, Method: "Users/Get"}, rand.Float64)
		if got := strings.Join(ids(callees), " "); got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
}
