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
		one, errOne := Callees(tc.s, Caller{}, "Get", rand.Float64)
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
		callees, err := Callees(s, Caller{}, "Get", random.Float64)
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
		if callees, err := Callees(s, Caller{}, method, rand.Float64); err != nil || len(callees) != 1 {
			t.Errorf("%s: %v, %v", method, callees, err)
		}
	}
	if callees, err := Callees(s, Caller{}, "acme.Other/Get", rand.Float64); err == nil {
		t.Errorf("a method that no instance serves: %v", callees)
	}
}
