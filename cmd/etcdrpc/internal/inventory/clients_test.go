package inventory

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// TestMerged checks the instances that clients derive from entries.
func TestMerged(t *testing.T) {
	// id, address, layout, lease, revisions of creation and change, lane
	for _, tt := range []struct{ entries, want string }{
		{"1 x plain 7 2 2 -, a x json 7 1 1 pr, b y json 8 1 1 -", "a b"},
		{"1 x plain 7 2 2 -, a x json 7 1 1 -", "a"},
		{"1 x json 7 2 2 -, a x json 7 1 1 -", "1"},
		{"x x zero 7 1 1 -, a x json 7 1 5 leaving, b y json 8 1 1 -", "b"},
		{"1 x json 7 6 6 -, a x json 7 1 5 leaving", "1"},
		{"a x json 7 1 5 leaving", ""},
		{"x x zero 8 1 1 -, a x json 7 1 5 leaving", "x"},
		{"1 x json 8 1 1 -, a x json 7 1 5 leaving", "1"},
	} {
		s := &Service{Key: "acme/user"}
		for spec := range strings.SplitSeq(tt.entries, ", ") {
			var e endpoint.Endpoint
			var layout, lane string
			var at Entry

			_, err := fmt.Sscan(spec, &e.Instance, &e.Addr, &layout, &at.Lease, &at.CreateRevision,
				&at.ModRevision, &lane)
			if err != nil {
				t.Fatal(err)
			}

			switch lane {
			case "leaving":
				e = e.WithLeaving()
			case "pr":
				e.Metadata = map[string]string{"lane": "pr"}
			}

			read := map[string]endpoint.Layout{
				"plain": endpoint.Plain,
				"zero":  endpoint.GoZero,
				"json":  endpoint.EndpointJSON,
			}[layout]

			s.Instances = append(s.Instances, Instance{Endpoint: e, Layout: read, Entry: at})
		}

		var got []string
		for _, i := range s.Merged().Instances {
			got = append(got, i.Instance)
		}

		if text := strings.Join(got, " "); text != tt.want {
			t.Errorf("%s: clients call %q, want %q", tt.entries, text, tt.want)
		}
	}
}

// TestDrained checks which addresses get no new calls.
func TestDrained(t *testing.T) {
	const (
		n1      = `{"Addr":"10.0.0.1:1","Metadata":{"version":"v1","weight":10}}`
		u1      = `{"id":"u","name":"user","version":"v1","metadata":{"k":"v","l":"w"},"endpoints":["grpc://10.0.0.1:1"]}`
		plain   = "10.0.0.1:1"
		other   = "10.0.0.2:1"
		inLane  = `{"Addr":"10.0.0.3:1","Metadata":{"lane":"pr"}}`
		alone   = `{"Addr":"10.0.0.4:1","Metadata":{"lane":"pr"}}`
		leaving = `{"Addr":"10.0.0.2:1","Metadata":{"grpc_leaving":"true"}}`
	)

	for _, tt := range []struct {
		name, fields string // of the policy "etcd"
		values       []string
		want         string
	}{
		{"by id", `"drain":["a"]`, []string{plain, other}, "10.0.0.1:1"},
		{"by address", `"drain":["10.0.0.2:1"]`, []string{plain, other}, "10.0.0.2:1"},
		{"by an id that clients do not know", `"drain":["b"]`, []string{n1, plain, other}, ""},
		{"by the id that clients know, for all entries of the address", `"drain":["a"]`,
			[]string{n1, plain, other}, "10.0.0.1:1"},
		{"by the id of another layout", `"drain":["a"]`, []string{plain, u1, other}, ""},
		{"all instances", `"drain":["a","b"]`, []string{plain, other}, "10.0.0.1:1 10.0.0.2:1"},
		{"too many instances, so the drain is ignored", `"drain":["a"],"minHealthyPercent":50`,
			[]string{plain, leaving}, ""},
		{"a leaving instance, which clients do not have", `"drain":["b"]`,
			[]string{plain, leaving}, ""},
		{"too many instances without a lane, so the drain of these is ignored",
			`"drain":["a","b"],"minHealthyPercent":1,"route":[{"label":"lane"}]`,
			[]string{plain, inLane, alone}, "10.0.0.3:1"},
		{"an instance in a lane", `"drain":["b"],"route":[{"label":"lane"}]`,
			[]string{plain, inLane}, "10.0.0.3:1"},
		{"by a policy that clients refuse", `"drain":["a"],"split":9`, []string{plain, other}, ""},
	} {
		s := &Service{Key: "acme/user"}
		for n, value := range tt.values {
			s.Add(Entry{
				Key:            "acme/user/" + string(rune('a'+n)),
				Value:          []byte(value),
				CreateRevision: int64(n + 1),
				ModRevision:    int64(n + 1),
			})
		}

		if len(s.Instances) != len(tt.values) {
			t.Fatalf("%s: malformed: %+v", tt.name, s.Malformed)
		}

		s.Config = &Entry{Value: []byte(`{"loadBalancingConfig":[{"etcd":{` +
			tt.fields + `,"childPolicy":[{"round_robin":{}}]}}]}`)}
		s.setStates()

		drained := make(map[string]bool)
		for _, i := range s.Instances {
			if i.Drain != nil {
				drained[i.Addr] = true
			}
		}

		if got := strings.Join(slices.Sorted(maps.Keys(drained)), " "); got != tt.want {
			t.Errorf("%s: drained are %q, want %q", tt.name, got, tt.want)
		}
	}
}
