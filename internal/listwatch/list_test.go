package listwatch

import (
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var (
	large = failed(status.Error(codes.ResourceExhausted,
		"grpc: received message larger than max (9000000 vs. 4194304)"))

	compacted = failed(rpctypes.ErrCompacted)
)

// more returns a page that is not the last.
func more(revision int, kvs ...*mvccpb.KeyValue) event {
	resp := list(revision, kvs...)
	resp.More = true
	resp.Count = 100

	return read(resp)
}

func of(cluster int, e event) event {
	e.read.Header.ClusterId = uint64(cluster)
	return e
}

func TestCoreListsInPages(t *testing.T) {
	first := []rule{
		{0, ok, "list"},
		{0, more(10, kv("a", "1", 5), kv("b", "1", 5)), `list 32768 from "b\x00" at 10`},
	}

	c := kv("c", "1", 5)
	for name, rules := range map[string][]rule{
		"all pages are read at the revision of the first": with(first,
			rule{0, more(12, c), `list 65536 from "c\x00" at 10`},
			rule{0, read(list(13, kv("d", "1", 5))),
				"publish [a=1 b=1 c=1 d=1], watch from 11, wait 4s"},
		),
		"a page that fails is read again, and is smaller": with(first,
			rule{1 * time.Second, late,
				`publish nothing known with the error, list 16384 from "b\x00" at 10`},
			rule{3 * time.Second, late, `etcd list failed, list 8192 from "b\x00" at 10`},
			rule{3 * time.Second, read(list(14, c)),
				"publish [a=1 b=1 c=1], watch from 11, wait 4s"},
		),
		"a page that is too large is read in parts at once, unless it is one entry": with(first,
			rule{0, large, `list 4096 from "b\x00" at 10`},
			rule{0, large, `list 512 from "b\x00" at 10`},
			rule{0, large, `list 64 from "b\x00" at 10`},
			rule{0, large, `list 8 from "b\x00" at 10`},
			rule{0, large, `list 1 from "b\x00" at 10`},
			rule{0, more(12, c), `list 32 from "c\x00" at 10`},
			rule{0, large, `list 4 from "c\x00" at 10`},
			rule{0, large, `list 1 from "c\x00" at 10`},
			rule{0, large, "etcd list failed, publish nothing known with the error, pause 50ms"},
			rule{0, ok, "list"}, // from the first key: the entry may have been deleted
		),
		"the list begins again once etcd has compacted its revision": with(first,
			rule{0, compacted,
				"etcd list failed, publish nothing known with the error, pause 50ms"},
			rule{0, ok, "list"},
		),
		"the list begins again when another etcd answers": with(first,
			rule{0, of(2, more(10, c)),
				"etcd list failed, publish nothing known with the error, pause 50ms"},
			rule{0, ok, "list"},
		),
		"the list begins again after a reconnect": with(first,
			rule{0, late, `publish nothing known with the error, list 16384 from "b\x00" at 10`},
			rule{0, back, "list"},
		),
	} {
		t.Run(name, func(t *testing.T) { testCore().follow(t, rules...) })
	}
}

// TestPageSizes checks that a page has about pageBytes, by the sizes in the
// page before it.
func TestPageSizes(t *testing.T) {
	for _, row := range []struct {
		rule        string
		asked, size int // the keys of the previous page, and the bytes of each value
		want        int64
	}{
		{"small entries after the first page", firstPage, 100, 19784},
		{"the smallest entries", 4000, 10, maxPage},
		{"entries of 1,000 bytes make a page of 2 MiB", 1000, 1000, 2084},
		{"larger entries", firstPage, 100_000, 20},
		{"an entry larger than a page", firstPage, 3 << 20, 1},
		{"small entries after a page of one key", 1, 100, 32},
	} {
		l := listing[string]{next: page{limit: int64(row.asked)}}
		kvs := []*mvccpb.KeyValue{kv("12345", strings.Repeat("x", row.size), 5)}
		if got := l.following(kvs); got != row.want {
			t.Errorf("%s: asks for %d keys, want %d", row.rule, got, row.want)
		}
	}
}
