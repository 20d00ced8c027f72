package main

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// TestMerged makes of entries the instances that clients make of them.
func TestMerged(t *testing.T) {
	for _, tt := range []struct{ entries, want string }{ // id, address, layout, revisions of creation and change, lane
		{"1 x plain 2 2 -, a x json 1 1 pr, b y json 1 1 -", "a b"},
		{"1 x plain 2 2 -, a x json 1 1 -", "a"},
		{"1 x json 2 2 -, a x json 1 1 -", "1"},
		{"1 x plain 1 1 -, a x json 1 5 leaving, b y json 1 1 -", "b"},
		{"1 x json 6 6 -, a x json 1 5 leaving", "1"},
		{"a x json 1 5 leaving", ""},
	} {
		s := &service{key: "acme/user"}
		for spec := range strings.SplitSeq(tt.entries, ", ") {
			var e endpoint.Endpoint
			var layout, lane string
			var at entry
			if _, err := fmt.Sscan(spec, &e.Instance, &e.Addr, &layout, &at.createRevision, &at.modRevision, &lane); err != nil {
				t.Fatal(err)
			}
			switch lane {
			case "leaving":
				e = e.WithLeaving()
			case "pr":
				e.Metadata = map[string]string{"lane": "pr"}
			}
			read := map[string]endpoint.Layout{"plain": endpoint.Plain, "json": endpoint.EndpointJSON}[layout]
			s.instances = append(s.instances, instance{Endpoint: e, layout: read, entry: at})
		}
		var got []string
		for _, i := range s.merged().instances {
			got = append(got, i.Instance)
		}
		if text := strings.Join(got, " "); text != tt.want {
			t.Errorf("%s: clients call %q, want %q", tt.entries, text, tt.want)
		}
	}
}

// TestExplain says who gets which share, in whole percents.
func TestExplain(t *testing.T) {
	instances := func() (all []instance) {
		for _, spec := range []string{"a v1 x 1 -", "b v1 y 3 -", "c v2 x 1 -", "d v2 y 1 pr", "e - x 1 pr"} {
			f := strings.Fields(strings.ReplaceAll(spec, "-", "''"))
			e := endpoint.Endpoint{Instance: f[0], Addr: f[0] + ":1", Version: strings.Trim(f[1], "'"), Zone: f[2], Weight: uint32(f[3][0] - '0'),
				Metadata: map[string]string{"lane": strings.Trim(f[4], "'")}}
			all = append(all, instance{Endpoint: e, layout: endpoint.EndpointJSON, entry: entry{key: "acme/user/" + f[0]}})
		}
		return all
	}()
	const split = `"split":[{"match":{"version":"v1"},"weight":3},{"match":{"version":"v2"},"weight":1}]`
	const outliers = `{"outlier_detection_experimental":{"childPolicy":[{"etcd_weighted":{}}]}}`
	const lanes = `"route":[{"label":"lane","strict":true},{"lane":"two","match":{"version":"v2"}}]`
	for _, tt := range []struct{ policy, lane, zone, want string }{
		{`{"etcd":{}}`, "", "", "a20 b20 c20 d20 e20"},
		{`{"etcd_weighted":{}}`, "", "", "a14 b43 c14 d14 e14"},
		{outliers, "", "", "a14 b43 c14 d14 e14"},
		{`{"etcd":{"childPolicy":[` + outliers + `]}}`, "", "", "a14 b43 c14 d14 e14"},
		{`{"etcd":{"preferZone":true}}`, "", "x", "a33 c33 e33"},
		{`{"etcd":{"preferZone":true}}`, "", "z", "a20 b20 c20 d20 e20"},
		{`{"etcd":{` + split + `}}`, "", "", "a38 b38 c13 d13"},
		{`{"etcd":{"preferZone":true,` + split + `}}`, "", "y", "b75 d25"},
		{`{"etcd":{"split":[{"match":{"version":"v9"},"weight":3},{"match":{"version":"v2"},"weight":0}]}}`, "", "", "a17 b17 c25 d25 e17"},
		{`{"etcd":{"drain":["a","b:1"]}}`, "", "", "c33 d33 e33"},
		{`{"etcd":{"drain":["a","b","c","d","e"]}}`, "", "", "a20 b20 c20 d20 e20"},
		{`{"etcd":{` + lanes + `}}`, "", "", "a50 b50"},
		{`{"etcd":{` + lanes + `}}`, "pr", "", "d50 e50"},
		{`{"etcd":{` + lanes + `}}`, "two", "", "c50 d50"},
		{`{"etcd":{` + lanes + `}}`, "other", "", ""},
		{`{"etcd":{"drain":["a","b"],` + lanes + `}}`, "", "", "a50 b50"},
		{`{"etcd":{"route":[{"label":"zone"}]}}`, "", "", "a20 b20 c20 d20 e20"},
	} {
		s := &service{key: "acme/user", instances: instances, config: &entry{value: []byte(`{"loadBalancingConfig":[` + tt.policy + `]}`)}}
		x, err := explain(s, caller{tt.lane, tt.zone})
		if err != nil {
			t.Errorf("%s: %v", tt.policy, err)
			continue
		}
		var got []string
		for _, i := range x.Instances {
			if i.Why == "" {
				t.Errorf("%s: nothing says why %s has %v", tt.policy, i.Instance, i.Share)
			}
			if i.Share > 0 {
				got = append(got, fmt.Sprintf("%s%.0f", i.Instance, math.Round(i.Share)))
			}
		}
		if text := strings.Join(got, " "); text != tt.want {
			t.Errorf("%s, lane %q, zone %q: %s, want %s; notes %q", tt.policy, tt.lane, tt.zone, text, tt.want, x.Notes)
		}
	}
}
