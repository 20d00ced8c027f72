package registrar

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// published returns the entry of a service, with the default layout and TTL.
func published(t *testing.T, service, key string, layouts ...endpoint.Layout) Entry {
	t.Helper()
	e, err := NewEntry(key, layouts, 15*time.Second, endpoint.Endpoint{}, Details{}, service)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A server has one announcement at a time, and none after its end (G24).
func TestBeginRefuses(t *testing.T) {
	for _, row := range []struct {
		before []event
		on     event
		want   string
	}{
		{[]event{announce}, announce, "the server is announced: "},
		{[]event{announce}, serve, "the server is announced: "},
		{[]event{serve, end}, announce, "the server is draining: "},
		{[]event{serve, end, withdraw, drained}, serve, "the server is stopped: "},
		{[]event{serve, withdraw}, serve, "the server is withdrawn: "},
	} {
		var c core
		for _, on := range row.before {
			c.step(on)
		}
		if err := c.begin(row.on); err == nil || !strings.HasPrefix(err.Error(), "etcd: "+row.want) {
			t.Errorf("begin(%v) after %v: error %v, want %q", row.on, row.before, err, row.want)
		}
	}
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
		{published(t, "a.B", "a/b"), Details{}, `services a.A and a.B: the key "a/b" is nested under the key "a"`},
		{published(t, "a.B", "a", endpoint.Plain), Details{}, `services a.A and a.B share the key "a" and must agree on the layout: [endpoint_json] and [plain]`},
		{Entry{Key: "a", Layouts: []endpoint.Layout{endpoint.EndpointJSON}, TTL: time.Second, Services: []string{"a.B"}}, Details{}, "must agree on the lease TTL: 15s and 1s"},
		{published(t, "a.B", "a"), Details{Metadata: map[string]string{"zone": "z"}}, `"zone" is reserved`},
		{published(t, "a.B", "a"), Details{Version: &version, Weight: &weight}, ""},
		{published(t, "b.B", "b", endpoint.LeaseSuffix), Details{}, ""},
		{published(t, "b.C", "b2"), Details{}, `the key "b2" continues the key "b", of layout lease_suffix`},
	} {
		err := c.publish(step.entry, step.d)
		if (err == nil) != (step.err == "") || err != nil && !strings.Contains(err.Error(), step.err) {
			t.Errorf("publish of services %v at key %q: error %v, want %q", step.entry.Services, step.entry.Key, err, step.err)
		}
	}
	if got := fmt.Sprint(c.services()); got != "[a.A a.B b.B]" || len(c.entries) != 2 {
		t.Errorf("published services %s in %d entries, want [a.A a.B b.B] in 2", got, len(c.entries))
	}
	if ep := c.entries[0].Endpoint; ep.Version != version || ep.Weight != weight {
		t.Errorf("the joined endpoint is %+v, want version %s and weight %d", ep, version, weight)
	}
	if err := c.begin(announce); err != nil {
		t.Fatal(err)
	}
	if err := c.publish(published(t, "c.C", "c"), Details{}); err == nil || !strings.Contains(err.Error(), "publish first") {
		t.Errorf("publish while the server is announced: %v, want an error", err)
	}
	c.step(withdraw)
	if err := c.publish(published(t, "c.C", "c"), Details{}); err != nil {
		t.Errorf("publish after the server was withdrawn: %v, want nil", err)
	}
}
