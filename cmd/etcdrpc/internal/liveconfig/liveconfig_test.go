package liveconfig

import (
	"testing"

	"google.golang.org/grpc/balancer"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	_ "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

func TestChildPolicy(t *testing.T) {
	for text, want := range map[string]string{
		"round_robin":       `[{"round_robin":{}}]`,
		"weighted":          `[{"etcd_weighted":{}}]`,
		`{"pick_first":{}}`: `[{"pick_first":{}}]`,
		` [{"pick_first":{}},{"round_robin":{}}] `: `[{"pick_first":{}},{"round_robin":{}}]`,
		"":                         "",
		"[]":                       "",
		`{}`:                       "",
		`{"nope":{}}`:              "",
		`{"a":{},"b":{}}`:          "",
		`{"pick_first":{}} excess`: "",
		`[{"pick_first":{}}]}}],"methodConfig":[{"name":[{}]}],"x":[{"y":{"z":[]`: "",
	} {
		got, err := ChildPolicy(text)
		config := serviceconfig.Config{LoadBalancing: got}
		if err == nil && config.JSON() != `{"loadBalancingConfig":`+want+`}` || (err != nil) != (want == "") {
			t.Errorf("ChildPolicy(%q) = %s, %v; want %s", text, config.JSON(), err, want)
		}
	}
	for _, name := range PolicyNames() {
		if _, err := ChildPolicy(name); err != nil {
			t.Errorf("ChildPolicy(%q): error %v, want none", name, err)
		}
	}
}

// TestConfig_String checks that unedited text is kept.
func TestConfig_String(t *testing.T) {
	detection := func(child string) string { return `{"outlier_detection_experimental":{"childPolicy":[` + child + `]}}` }
	const rest = `"methodConfig":[{"name":[{}],"timeout":"1.50s"}]`
	for text, want := range map[string]string{
		``: `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}],"drain":["a"]}}]}`,
		`{"loadBalancingPolicy":"pick_first",` + rest + `}`:                                   `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"pick_first":{}}],"drain":["a"]}}],` + rest + `}`,
		`{` + rest + `,"loadBalancingConfig":[{"etcd":{"drain":["b"]}}]}`:                     `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}],"drain":["b","a"]}}],` + rest + `}`,
		`{"loadBalancingConfig":[` + detection(`{"etcd_weighted":{}}`) + `]}`:                 `{"loadBalancingConfig":[` + detection(`{"etcd":{"childPolicy":[{"etcd_weighted":{}}],"drain":["a"]}}`) + `]}`,
		`{"loadBalancingConfig":[` + detection(`{"etcd":{"drain":["b"]}}`) + `]}`:             `{"loadBalancingConfig":[` + detection(`{"etcd":{"childPolicy":[{"round_robin":{}}],"drain":["b","a"]}}`) + `]}`,
		`{"loadBalancingConfig":[{"pick_first":{}},` + detection(`{"round_robin":{}}`) + `]}`: ``,
		`{"loadBalancingConfig":[{"etcd":{}},{"round_robin":{}}],` + rest + `}`:               `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}],"drain":["a"]}},{"round_robin":{}}],` + rest + `}`,
	} {
		c, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		child, err := ChildPolicy("round_robin")
		if err != nil || c.String() != text {
			t.Fatal(c, err)
		}
		policy, err := c.EnsureEtcd(child)
		if err != nil {
			if want != "" {
				t.Errorf("EnsureEtcd of %s: error %v, want %s", text, err, want)
			}
			continue
		}
		policy.Drain = append(policy.Drain, "a")
		if got := c.String(); got != want {
			t.Errorf("%s becomes %s, want %s", text, got, want)
		}
	}
}

// TestLinkedPolicies compares isLinked with the policies that the runtime registers in this binary.
func TestLinkedPolicies(t *testing.T) {
	names := []string{serviceconfig.EtcdName, serviceconfig.OutlierDetectionName}
	for _, p := range serviceconfig.Picking {
		names = append(names, p.Name)
	}
	for _, name := range names {
		if got, want := isLinked(name), balancer.Get(name) != nil; got != want {
			t.Errorf("isLinked(%q) = %v, want %v as in the runtime's registry", name, got, want)
		}
	}
}
