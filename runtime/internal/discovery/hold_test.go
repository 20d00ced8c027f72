package discovery

import (
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

var pool = map[string]*Backend{}

// set returns a backend for each letter.
func set(letters string) []*Backend {
	var backends []*Backend
	for _, name := range strings.Split(letters, "") {
		if name == "" {
			continue
		}

		if pool[name] == nil {
			// An upper case letter is the same instance at another address.
			pool[name] = model.New(endpoint.Endpoint{
				Instance: strings.ToLower(name),
				Addr:     name + ":1",
			}, endpoint.EndpointJSON)
		}

		backends = append(backends, pool[name])
	}

	return backends
}

func names(backends []*Backend) string {
	var b strings.Builder
	for _, backend := range backends {
		b.WriteString(strings.TrimSuffix(backend.Endpoint.Addr, ":1"))
	}

	return b.String()
}

func TestHold(t *testing.T) {
	type step struct {
		after   time.Duration // since the step before
		truth   string
		publish string

		// endpoints withdrawn by their owners, which are never held and do not
		// count as lost
		left string
	}

	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"the last one leaves", []step{
			{0, "a", "a", ""},
			{time.Hour, "", "a", ""},
			{29 * time.Second, "", "a", ""},
			{time.Second, "", "", ""},
			{0, "", "", ""},
			{0, "b", "b", ""},
		}},
		{"all vanish and come back", []step{
			{0, "abc", "abc", ""},
			{0, "", "abc", ""},
			{time.Second, "b", "abc", ""},
			{time.Second, "abc", "abc", ""},
			{0, "ab", "ab", ""},
		}},
		{"most vanish at once", []step{
			{0, "abcde", "abcde", ""},
			{0, "ab", "abcde", ""},
			{30 * time.Second, "ab", "ab", ""},
		}},
		{"they vanish one by one", []step{
			{0, "abcdef", "abcdef", ""},
			{time.Second / 2, "abcde", "abcde", ""},
			{time.Second / 2, "abcd", "abcd", ""},
			{time.Second / 2, "abc", "abc", ""},
			{time.Second / 2, "ab", "abc", ""},
			{time.Second / 2, "a", "abc", ""},
			{time.Second / 2, "", "abc", ""},
			{29 * time.Second, "", "ab", ""},
		}},
		{"they leave one by one, slowly", []step{
			{0, "abcd", "abcd", ""},
			{time.Minute, "abc", "abc", ""},
			{time.Minute, "ab", "ab", ""},
			{time.Minute, "a", "a", ""},
			{time.Minute, "", "a", ""},
		}},
		{"one comes back at another address", []step{
			{0, "abcd", "abcd", ""},
			{0, "", "abcd", ""},
			{0, "B", "aBcd", ""},
		}},
		{"others take their places", []step{
			{0, "abc", "abc", ""},
			{0, "", "abc", ""},
			{time.Second, "x", "abx", ""},
			{time.Second, "cx", "acx", ""},
			{time.Second, "cxyz", "cxyz", ""},
		}},
		{"one comes back twice", []step{
			{0, "abcd", "abcd", ""},
			{0, "a", "abcd", ""},
			{10 * time.Second, "ab", "abcd", ""},
			{10 * time.Second, "a", "acd", ""},
			{0, "ab", "abcd", ""},
		}},
		{"all leave in order, one by one", []step{
			{0, "abc", "abc", ""},
			{0, "ab", "ab", "c"},
			{0, "a", "a", "b"},
			{0, "", "", "a"},
		}},
		{"all leave in order at once", []step{
			{0, "abcd", "abcd", ""},
			{0, "", "", "abcd"},
		}},
		{"some leave in order while the others vanish", []step{
			{0, "abcd", "abcd", ""},
			{0, "", "cd", "ab"},
		}},
		{"most leave in order, then one vanishes", []step{
			{0, "abcde", "abcde", ""},
			{0, "ab", "ab", "cde"},
			{0, "a", "a", ""},
		}},
		{"a loss is forgotten after five seconds", []step{
			{0, "abcdefghij", "abcdefghij", ""},
			{0, "abcdef", "abcdef", ""},
			{4 * time.Second, "abcdef", "abcdef", ""},
			{4 * time.Second, "abcd", "abcd", ""},
		}},
	} {
		h := hold{grace: 30 * time.Second}
		now := start
		var publish []*Backend
		for i, step := range tt.steps {
			now = now.Add(step.after)

			left := map[string]struct{}{}
			for _, b := range set(step.left) {
				left[b.Endpoint.Addr] = struct{}{}
			}

			publish = h.filter(publish, set(step.truth), entriesOf(step.truth), left, now)
			recheck := h.next()

			if got := names(publish); got != step.publish {
				t.Errorf("%s: step %d: truth %q published as %q, want %q", tt.name, i, step.truth,
					got, step.publish)
			}

			holding := len(publish) > len(step.truth)
			if holding != !recheck.IsZero() || holding && !recheck.After(now) {
				t.Errorf("%s: step %d: holds endpoints %v, next check after %v; want a check only if it holds any",
					tt.name, i, holding, recheck.Sub(now))
			}
		}
	}
}

// entriesOf returns an entry for each letter.
func entriesOf(letters string) []*item {
	var items []*item
	for _, b := range set(letters) {
		items = append(items, &item{Key: b.Endpoint.Addr, Value: b})
	}

	return items
}

// TestHoldKnowsAnInstanceByEachName has an instance with the entries a and b.
// Entry b names the address x:1 for a while. The address x:1 is not held once
// entry b names a:1, the address of entry a.
func TestHoldKnowsAnInstanceByEachName(t *testing.T) {
	plain := func(addr string) *item {
		return &item{
			Key:   "k/b",
			Value: model.New(endpoint.Endpoint{Instance: "b", Addr: addr}, endpoint.Plain),
		}
	}

	h := hold{grace: 30 * time.Second}
	var publish []*Backend
	for _, step := range []struct {
		items   []*item
		publish string
	}{
		{[]*item{entriesOf("a")[0], plain("x:1")}, "ax"},
		{nil, "ax"},
		{[]*item{entriesOf("a")[0], plain("a:1")}, "a"},
	} {
		truth, _ := new(merger).merge(step.items)
		publish = h.filter(publish, truth, step.items, nil, start)
		if names(publish) != step.publish {
			t.Errorf("%d entries published as %q, want %q", len(step.items), names(publish),
				step.publish)
		}
	}
}
