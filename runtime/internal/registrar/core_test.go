package registrar

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

// published returns the entry of a service, with the default layout and TTL.
func published(t *testing.T, service, key string, layouts ...endpoint.Layout) Entry {
	t.Helper()

	e, err := NewEntry(key, layouts, 15*time.Second, endpoint.Endpoint{}, Details{}, service)
	must.Succeed(t, err)

	return e
}

func TestPublish(t *testing.T) {
	weight := uint32(7)
	version := "v2"
	var c core
	for _, step := range []struct {
		entry Entry
		d     Details
		err   string
	}{
		{published(t, "a.A", "a"), Details{}, ""},
		{published(t, "a.A", "b"), Details{}, "service a.A is published twice"},
		{published(t, "a.B", "a/b"), Details{},
			`services a.A and a.B: the key "a/b" is nested under the key "a"`},
		{published(t, "a.B", "a", endpoint.Plain), Details{},
			`services a.A and a.B share the key "a" and must agree on the layout: [endpoint_json] and [plain]`},
		{Entry{
			Key:      "a",
			Layouts:  []endpoint.Layout{endpoint.EndpointJSON},
			TTL:      time.Second,
			Services: []string{"a.B"},
		}, Details{}, "must agree on the lease TTL: 15s and 1s"},
		{published(t, "a.B", "a"), Details{Metadata: map[string]string{"zone": "z"}},
			`"zone" is reserved`},
		{published(t, "a.B", "a"), Details{Version: &version, Weight: &weight}, ""},
		{published(t, "b.B", "b", endpoint.LeaseSuffix), Details{}, ""},
		{published(t, "b.C", "b2"), Details{},
			`the key "b2" continues the key "b", of layout lease_suffix`},
	} {
		err := c.publish(step.entry, step.d)
		if (err == nil) != (step.err == "") ||
			err != nil && !strings.Contains(err.Error(), step.err) {
			t.Errorf("publish of services %v at key %q: error %v, want %q", step.entry.Services,
				step.entry.Key, err, step.err)
		}
	}

	if got := fmt.Sprint(c.services()); got != "[a.A a.B b.B]" || len(c.entries) != 2 {
		t.Errorf("published services %s in %d entries, want [a.A a.B b.B] in 2", got,
			len(c.entries))
	}

	if ep := c.entries[0].Endpoint; ep.Version != version || ep.Weight != weight {
		t.Errorf("the joined endpoint is %+v, want version %s and weight %d", ep, version, weight)
	}
}
