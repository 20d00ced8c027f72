package discovery

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

var savedAt = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func encoded(s *saved) ([]byte, error) {
	var text bytes.Buffer
	err := writeSnapshot(&text, s, savedAt)
	return text.Bytes(), err
}

func backendsOf(endpoints ...endpoint.Endpoint) []*Backend {
	var set []*Backend
	for _, e := range endpoints {
		set = append(set, newBackend(e, endpoint.EndpointJSON))
	}
	return set
}

// TestSnapshot_OneLimitForBothWays checks that each encoded snapshot can be decoded.
func TestSnapshot_OneLimitForBothWays(t *testing.T) {
	large := func(bytes int) []*Backend {
		return backendsOf(endpoint.Endpoint{Instance: "a", Addr: "a:1", Metadata: map[string]string{"k": strings.Repeat("x", bytes)}})
	}
	if text, err := encoded(&saved{set: large(maxSnapshot - 200)}); err != nil || len(text) > maxSnapshot {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	for _, set := range [][]*Backend{large(maxSnapshot), slices.Repeat(large(maxSnapshot/8), 8)} {
		if _, err := encoded(&saved{set: set}); !errors.Is(err, errSnapshotTooLarge) {
			t.Errorf("%d endpoints beyond the limit: %v", len(set), err)
		}
	}
}

// FuzzSnapshot decodes any text. The result is a set as from entries in etcd, and stays the same when it is encoded and decoded.
func FuzzSnapshot(f *testing.F) {
	text, err := encoded(&saved{set: backendsOf(
		endpoint.Endpoint{Instance: "a", Addr: "10.0.0.1:9000", Version: "v2", Zone: "<z>", Weight: 3, Metadata: map[string]string{"k": "é\n"}},
		endpoint.Endpoint{Instance: "b", Addr: "[::1]:9000"},
	), live: `{"a":["\u003c"]}`})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, endpoints := range []string{
		`[]`, `null`, `[null]`, `[{"addr":"h:1"},{"addr":"unix:1"}]`, `[{"addr":"h"}]`, `[{"ADDR":"[::1]:1","weight":-1}]`, "[{\"addr\":\"h:1\",\"zone\":\"\xff\"}]",
		`[{"instance":"b","addr":"h:2"},{"instance":"a","addr":"h:1"},{"instance":"c","addr":"h:1","zone":"z"}]`,
	} {
		f.Add([]byte(`{"saved":"2026-01-02T03:04:05Z","endpoints":` + endpoints + `}`))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, _, err := decodeSnapshot(text)
		if err != nil {
			return
		}
		addrs := make(map[string]bool)
		for _, b := range s.set {
			if err := endpoint.CheckAddr(b.Endpoint.Addr, true); err != nil || addrs[b.Endpoint.Addr] || b.Endpoint.Instance == "" {
				t.Fatalf("decoded %+v: %v", b.Endpoint, err)
			}
			addrs[b.Endpoint.Addr] = true
		}
		if !slices.IsSortedFunc(s.set, compare) {
			t.Fatalf("decoded an unsorted set: %v", instances(s.set))
		}
		first, err := encoded(&s)
		if err != nil {
			t.Fatalf("decoded %+v, which cannot be encoded: %v", s, err)
		}
		again, _, err := decodeSnapshot(first)
		if err != nil || !slices.EqualFunc(again.set, s.set, (*Backend).Equal) {
			t.Fatalf("decoded %s, encoded and decoded %s, %v", instances(s.set), instances(again.set), err)
		}
		if second, err := encoded(&again); err != nil || string(second) != string(first) {
			t.Fatalf("encoded as %s, then as %s, %v", first, second, err)
		}
	})
}

func instances(set []*Backend) []string {
	var all []string
	for _, b := range set {
		all = append(all, b.Endpoint.Instance+"="+b.Endpoint.Addr)
	}
	return all
}
