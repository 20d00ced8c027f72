package inventory

import (
	"fmt"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// TestMerged checks the instances that clients derive from entries.
func TestMerged(t *testing.T) {
	for _, tt := range []struct{ entries, want string }{ // id, address, layout, lease, revisions of creation and change, lane
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
			if _, err := fmt.Sscan(spec, &e.Instance, &e.Addr, &layout, &at.Lease, &at.CreateRevision, &at.ModRevision, &lane); err != nil {
				t.Fatal(err)
			}
			switch lane {
			case "leaving":
				e = e.WithLeaving()
			case "pr":
				e.Metadata = map[string]string{"lane": "pr"}
			}
			read := map[string]endpoint.Layout{"plain": endpoint.Plain, "zero": endpoint.GoZero, "json": endpoint.EndpointJSON}[layout]
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
