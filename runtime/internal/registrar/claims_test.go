package registrar

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// at returns the entry of an instance with a TTL in seconds.
func at(key, instance, addr string, seconds int, layouts ...endpoint.Layout) Entry {
	if len(layouts) == 0 {
		layouts = []endpoint.Layout{endpoint.EndpointJSON}
	}

	return Entry{
		Key:      key,
		Layouts:  layouts,
		TTL:      time.Duration(seconds) * time.Second,
		Endpoint: endpoint.Endpoint{Instance: instance, Addr: addr},
	}
}

// listens returns the entry of a server that listens on an address, and
// announces the address in the environment.
func listens(key, listen string) Entry {
	e := at(key, "i", "h:1", 15)
	e.listen = listen

	return e
}

// Each rule adds an entry. want is the kind of the entry's session, shared or
// dedicated, or the start of the error. If want is "gone N", the rule removes
// the entry of rule N (G29).
func TestClaims(t *testing.T) {
	const gone = "gone"

	plain := endpoint.Plain
	suffix := endpoint.LeaseSuffix
	goZero := endpoint.GoZero
	kitex := endpoint.Kitex

	type rule struct {
		entry Entry
		want  string
	}

	taken := func(key, instance, of, layout string, seconds int) string {
		return fmt.Sprintf(
			"key %q is already registered by this process, as instance %q of %q in [%s] with a TTL of %ds",
			key, instance, of, layout, seconds)
	}
	for name, rules := range map[string][]rule{
		"one entry twice": {
			{at("a", "i", "h:1", 15), "shared"},
			{at("a", "i", "h:1", 15), taken("a/i", "i", "a", "endpoint_json", 15)},
			{at("a", "j", "h:1", 15), "shared"},
		},
		"the environment's address, for another server": {
			{listens("a", "[::]:9000"), "shared"},
			{listens("b", "[::]:9000"), "shared"},
			{listens("c", "[::]:9001"),
				`GRPC_ADVERTISE_ADDR: address "h:1" is already announced for the server that listens on [::]:9000, so it cannot be that of the server on [::]:9001: give each its own by WithAdvertiseAddress`},
			{at("c", "i", "h:1", 15), "shared"},
			{listens("a", "[::]:9000"), gone + " 0"},
			{listens("b", "[::]:9000"), gone + " 1"},
			{listens("e", "[::]:9001"), "shared"},
			{listens("d", "[::]:9000"), "GRPC_ADVERTISE_ADDR"},
		},
		"one entry under another TTL": {
			{at("a", "i", "h:1", 15), "shared"},
			{at("a", "i", "h:1", 20), taken("a/i", "i", "a", "endpoint_json", 15)},
		},
		"another layout with the same key": {
			{at("a", "i", "h:1", 15), "shared"},
			{at("a", "i", "h:2", 15, plain), taken("a/i", "i", "a", "endpoint_json", 15)},
		},
		"one address in a layout whose key is the lease": {
			{at("a", "i", "h:1", 15, goZero), "shared"},
			{at("a", "j", "h:1", 20, goZero), taken("a (go_zero at h:1)", "i", "a", "go_zero", 15)},
		},
		"an instance id that is the address of another": {
			{at("a", "i", "h:1", 15, kitex), "shared"},
			{at("a", "h:1", "h:2", 15), taken("a/h:1", "i", "a", "kitex", 15)},
		},
		"a second entry with the lease's key takes a session of its own": {
			{at("a", "i", "h:1", 15, goZero), "shared"},
			{at("a", "i", "h:2", 15, goZero), "dedicated"},
			{at("a", "i", "h:1", 15, suffix), "dedicated"},
			{at("a", "i", "h:1", 15), "shared"},
			{at("b", "i", "h:1", 15, goZero), "shared"},
			{at("a", "i", "h:3", 20, goZero), "shared"},
		},
		"a dedicated session stays dedicated when the shared one is free": {
			{at("a", "i", "h:1", 15, goZero), "shared"},
			{at("a", "i", "h:2", 15, goZero), "dedicated"},
			{at("a", "i", "h:1", 15, goZero), gone + " 0"},
			{at("a", "i", "h:1", 15, goZero), "shared"},
		},
		"nested keys": {
			{at("a/b", "i", "h:1", 15), "shared"},
			{at("a", "i", "h:1", 15), `the key "a/b" is nested under the key "a"`},
			{at("a/b/c", "i", "h:1", 15), `the key "a/b/c" is nested under the key "a/b"`},
			{at("a/bc", "i", "h:1", 15), "shared"},
		},
		"a key that looks like a lease's": {
			{at("a", "i", "h:1", 15, suffix), "shared"},
			{at("a2", "i", "h:1", 15),
				`the key "a2" continues the key "a", of layout lease_suffix, with a digit`},
			{at("b2", "i", "h:1", 15), "shared"},
			{at("b", "i", "h:1", 15), "shared"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClaims()
			for i, rule := range rules {
				var n int
				if _, err := fmt.Sscanf(rule.want, gone+" %d", &n); err == nil {
					c.remove(&rules[n].entry)
					continue
				}

				got := "shared"

				dedicated, err := c.add(&rules[i].entry)
				switch {
				case err != nil:
					got = err.Error()
				case dedicated:
					got = "dedicated"
				}

				if !strings.HasPrefix(got, rule.want) {
					t.Errorf("rule %d, key %s in layouts %v: got %s, want %s", i, rule.entry.Key,
						rule.entry.Layouts, got, rule.want)
				}
			}
		})
	}
}
