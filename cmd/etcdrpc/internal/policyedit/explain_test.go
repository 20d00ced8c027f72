package policyedit

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// TestExplain checks the shares, in whole percent.
func TestExplain(t *testing.T) {
	instances := func() (all []inventory.Instance) {
		for _, spec := range []string{"a v1 x 1 -", "b v1 y 3 -", "c v2 x 1 -", "d v2 y 1 pr",
			"e - x 1 pr"} {
			f := strings.Fields(strings.ReplaceAll(spec, "-", "''"))
			e := endpoint.Endpoint{
				Instance: f[0],
				Addr:     f[0] + ":1",
				Version:  strings.Trim(f[1], "'"),
				Zone:     f[2],
				Weight:   uint32(f[3][0] - '0'),
				Metadata: map[string]string{"lane": strings.Trim(f[4], "'")}}

			all = append(all, inventory.Instance{
				Endpoint: e,
				Layout:   endpoint.EndpointJSON,
				Entry:    inventory.Entry{Key: "acme/user/" + f[0]},
			})
		}

		return all
	}()

	const split = `"split":[{"match":{"version":"v1"},"weight":3},{"match":{"version":"v2"},"weight":1}]`
	const outliers = `{"outlier_detection_experimental":{"childPolicy":[{"etcd_weighted":{}}]}}`
	const lanes = `"route":[{"label":"lane","strict":true},{"lane":"two","match":{"version":"v2"}}]`

	const rr = `"childPolicy":[{"round_robin":{}}],`
	for _, tt := range []struct{ policy, lane, zone, want string }{
		{`{"etcd":{}}`, "", "", "a33 b33 c33"}, // the proto file may have lanes
		{`{"round_robin":{}}`, "", "", "a20 b20 c20 d20 e20"},
		{`{"etcd_weighted":{}}`, "", "", "a14 b43 c14 d14 e14"},
		{outliers, "", "", "a14 b43 c14 d14 e14"},
		{`{"outlier_detection_experimental":{"childPolicy":[{"etcd":{"drain":["b"],"childPolicy":[{"etcd_weighted":{}}]}}]}}`,
			"", "", "a25 c25 d25 e25"},
		{`{"etcd":{` + rr + `"preferZone":true}}`, "", "x", "a33 c33 e33"},
		{`{"etcd":{` + rr + `"preferZone":true}}`, "", "z", "a20 b20 c20 d20 e20"},
		{`{"etcd":{` + rr + split + `}}`, "", "", "a38 b38 c13 d13"},
		{`{"etcd":{` + rr + `"preferZone":true,` + split + `}}`, "", "y", "b75 d25"},
		{`{"etcd":{` + rr + `"split":[{"match":{"version":"v9"},"weight":3},{"match":{"version":"v2"},"weight":0}]}}`,
			"", "", "a17 b17 c25 d25 e17"},
		{`{"etcd":{` + rr + `"drain":["a","b:1"]}}`, "", "", "c33 d33 e33"},
		{`{"etcd":{` + rr + `"drain":["a","b","c","d","e"]}}`, "", "", "a20 b20 c20 d20 e20"},
		{`{"etcd":{` + lanes + `}}`, "", "", "a50 b50"},
		{`{"etcd":{` + lanes + `}}`, "pr", "", "d50 e50"},
		{`{"etcd":{` + lanes + `}}`, "two", "", "c50 d50"},
		{`{"etcd":{` + lanes + `}}`, "other", "", ""},
		{`{"etcd":{"drain":["a","b"],` + lanes + `}}`, "", "", "a50 b50"},
		{`{"etcd":{"route":[{"label":"zone"}]}}`, "", "", "a20 b20 c20 d20 e20"},
	} {
		s := &inventory.Service{Key: "acme/user", Instances: instances, Config: &inventory.Entry{
			Value: []byte(`{"loadBalancingConfig":[` + tt.policy + `]}`),
		}}
		x, err := Explain(s, Caller{Lane: tt.lane, Zone: tt.zone})
		if err != nil {
			t.Errorf("Explain of %s: error %v, want none", tt.policy, err)
			continue
		}

		var got []string
		for _, i := range x.Instances {
			if i.Share.Why == "" ||
				strings.Contains(i.Share.Why, "split") && !strings.Contains(tt.policy, "split") {
				t.Errorf("%s: the reason for the share of %s, %v %%, is %q", tt.policy, i.Instance,
					i.Share.Percent, i.Share.Why)
			}

			if i.Share.Percent > 0 {
				got = append(got, fmt.Sprintf("%s%.0f", i.Instance, math.Round(i.Share.Percent)))
			}
		}

		if text := strings.Join(got, " "); text != tt.want {
			t.Errorf("%s, lane %q, zone %q: shares %q, want %q; notes %q", tt.policy, tt.lane,
				tt.zone, text, tt.want, x.Notes)
		}
	}
}

// TestExplain_Notes checks the notes.
func TestExplain_Notes(t *testing.T) {
	instance := func(name, version, lane string) inventory.Instance {
		e := endpoint.Endpoint{
			Instance: name,
			Addr:     name + ":1",
			Version:  version,
			Metadata: map[string]string{"lane": lane},
		}

		return inventory.Instance{
			Endpoint: e,
			Layout:   endpoint.EndpointJSON,
			Entry:    inventory.Entry{Key: "acme/user/" + name},
		}
	}

	all := []inventory.Instance{instance("a", "v1", ""), instance("b", "v2", "pr"),
		instance("c", "", "")}
	const child = `"childPolicy":[{"round_robin":{}}]`

	const split = `"split":[{"match":{"version":"v1"},"weight":3},{"match":{"version":"v9"},"weight":1}]`
	for _, tt := range []struct {
		policy string
		caller Caller
		want   []string
	}{
		{`{"etcd":{` + child + `}}`, Caller{}, nil},
		{`{"pick_first":{}}`, Caller{}, []string{"pick_first keeps each client to one instance"}},
		{`{"etcd":{"subset":2,` + child + `}}`, Caller{}, []string{"Each client uses 2 instances"}},
		{`{"etcd":{` + child + `,` + split + `}}`, Caller{},
			[]string{`the group version="v9" of the split matches no endpoint`}},
		{`{"etcd":{"preferZone":true,` + child + `}}`, Caller{},
			[]string{"of a client without a zone"}},
		{`{"etcd":{"preferZone":true,` + child + `}}`, Caller{Zone: "x"}, nil},
		{`{"etcd":{"route":[{"label":"lane"}],` + child + `}}`, Caller{},
			[]string{"of calls without a lane"}},
		{`{"etcd":{"route":[{"label":"lane"}],` + child + `}}`, Caller{Lane: "pr"}, nil},
	} {
		s := &inventory.Service{Key: "acme/user", Instances: all, Config: &inventory.Entry{
			Value: []byte(`{"loadBalancingConfig":[` + tt.policy + `]}`),
		}}
		x, err := Explain(s, tt.caller)
		if err != nil {
			t.Errorf("Explain of %s: error %v, want none", tt.policy, err)
			continue
		}

		ok := len(x.Notes) == len(tt.want)
		for n := range min(len(x.Notes), len(tt.want)) {
			ok = ok && strings.Contains(x.Notes[n], tt.want[n])
		}

		if !ok {
			t.Errorf("%s, %+v: notes %q, want %q", tt.policy, tt.caller, x.Notes, tt.want)
		}
	}
}
