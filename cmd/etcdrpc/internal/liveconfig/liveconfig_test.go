package liveconfig

import (
	"testing"

	"google.golang.org/grpc/balancer"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	_ "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestConfig_String checks that unedited text is kept.
func TestConfig_String(t *testing.T) {
	detection := func(child string) string {
		return `{"outlier_detection_experimental":{"childPolicy":[` + child + `]}}`
	}
	const rest = `"methodConfig":[{"name":[{}],"timeout":"1.50s"}]`
	for text, want := range map[string]string{
		``: `{"loadBalancingConfig":[{"etcd":{"drain":["a"]}}]}`,
		`{"loadBalancingConfig":[{"etcd":{"preferZone":false}}]}`: `{"loadBalancingConfig":[{"etcd":{"drain":["a"],"preferZone":false}}]}`,
		`{"loadBalancingPolicy":"pick_first",` + rest + `}`: `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"pick_first":{}}],"drain":["a"]}}],` +
			rest + `}`,
		`{` + rest + `,"loadBalancingConfig":[{"etcd":{"drain":["b"]}}]}`: `{"loadBalancingConfig":[{"etcd":{"drain":["b","a"]}}],` +
			rest + `}`,
		`{"loadBalancingConfig":[` + detection(`{"etcd_weighted":{}}`) +
			`]}`: `{"loadBalancingConfig":[` +
			detection(`{"etcd":{"childPolicy":[{"etcd_weighted":{}}],"drain":["a"]}}`) + `]}`,
		`{"loadBalancingConfig":[` + detection(`{"etcd":{"drain":["b"]}}`) +
			`]}`: `{"loadBalancingConfig":[` +
			detection(`{"etcd":{"childPolicy":[{"round_robin":{}}],"drain":["b","a"]}}`) + `]}`,
		`{"loadBalancingConfig":[{"pick_first":{}},` + detection(`{"round_robin":{}}`) + `]}`: ``,
		`{"loadBalancingConfig":[{"etcd":{}},{"round_robin":{}}],` +
			rest + `}`: `{"loadBalancingConfig":[{"etcd":{"drain":["a"]}},{"round_robin":{}}],` +
			rest + `}`,
	} {
		c, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}

		if c.String() != text {
			t.Fatal(c)
		}

		policy, err := c.EnsureEtcd()
		if err != nil {
			if want != "" {
				t.Errorf("EnsureEtcd of %s: error %v, want %s", text, err, want)
			}

			continue
		}

		policy.Drain = append(policy.Drain, serviceconfig.Drained{Instance: "a"})

		if got := c.String(); got != want {
			t.Errorf("%s becomes %s, want %s", text, got, want)
		}
	}
}

// TestLinkedPolicies compares isLinked with the policies that the runtime
// registers in this binary.
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
