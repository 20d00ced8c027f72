package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
)

// TestMistypedZones finds the zones that are spelled almost as others.
func TestMistypedZones(t *testing.T) {
	for _, tt := range []struct{ zones, want string }{ // of an instance each
		{"eu-1A eu-1a", "eu-1A"}, {"eu-1a eu-1A eu-1A", "eu-1a"},
		{"eu1a eu-1a eu-1a eu-1a", "eu1a"}, {"eu1a eu-1a eu-1a", ""}, // both may be right
		{"us-east1 us-east-1 us-east1 us-east-1", ""}, {"eu-1-1 eu-11 eu-11 eu-11", ""},
		{"eu-1a eu-1b eu-1b eu-1b eu-2a", ""}, {"a1 a2 a2 a2", ""}, {"racka rackb rackb rackb", ""}, {"zone zonea zonea zonea", ""},
		{"us-eats-1 us-east-1 us-east-1 us-east-1", "us-eats-1"}, {"us-est-1 us-east-1 us-east-1 us-east-1", "us-est-1"}, {"centrol central central central", "centrol"},
		{"us-west-1 us-east-1 us-east-1 us-east-1", ""}, {"af-south-1 ap-south-1 ap-south-1 ap-south-1", ""}, {"lax lux lux lux", ""}, {"北京 上海 上海 上海", ""},
	} {
		s := &inventory.Service{Key: "acme/user"}
		for n, zone := range strings.Fields(tt.zones) {
			s.Add(inventory.Entry{Key: fmt.Sprint("acme/user/", n), Value: fmt.Appendf(nil, `{"Addr":"10.0.0.%d:1","Metadata":{"zone":%q}}`, n, zone)})
		}
		p := examinationOf([]*inventory.Service{s})
		p.readZones()
		if got := strings.Join(slices.Collect(maps.Keys(p.zones)), " "); got != tt.want {
			t.Errorf("zones %s: found %q, want %q", tt.zones, got, tt.want)
		}
	}
}
