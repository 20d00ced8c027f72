package listwatch

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// decodeText decodes texts; "bad" is malformed, "other" does not belong to the
// range.
func decodeText(entry *mvccpb.KeyValue) (string, bool, error) {
	switch v := string(entry.Value); {
	case strings.HasPrefix(v, "bad"):
		return "", true, errors.New("malformed")
	case v == "other":
		return "", false, nil
	default:
		return v, true, nil
	}
}

// newSet returns a set whose values are texts.
func newSet(malformed *[]string) set[string] {
	return set[string]{
		decode:    decodeText,
		equal:     func(a, b string) bool { return a == b },
		malformed: func(key string, _ error) { *malformed = append(*malformed, key) },
	}
}

// replace loads a list of one part.
func (s *set[T]) replace(kvs []*mvccpb.KeyValue) {
	l := s.load()
	l.add(kvs)
	l.finish()
}

func text(items []*Item[string]) string {
	var parts []string
	for _, item := range items {
		parts = append(parts, item.Key+"="+item.Value)
	}

	return strings.Join(parts, " ")
}

func TestSetReportsAMalformedValueOnce(t *testing.T) {
	var malformed []string
	s := newSet(&malformed)
	s.replace([]*mvccpb.KeyValue{kv("a", "1", 1), kv("b", "bad", 1), kv("c", "other", 1)})
	s.put(kv("b", "bad", 2))
	s.replace([]*mvccpb.KeyValue{kv("a", "1", 1), kv("b", "bad", 2)})

	if got := text(s.commit()); got != "a=1" || len(malformed) != 1 {
		t.Errorf("the set has %q, and reported %q; want a=1, and one report", got, malformed)
	}

	s.put(kv("b", "bad too", 3))

	if len(malformed) != 2 {
		t.Errorf("after a second malformed value: reported %q, want 2 reports", malformed)
	}

	if !s.put(kv("b", "2", 4)) || text(s.commit()) != "a=1 b=2" {
		t.Errorf("after a valid value the set has %q, want a=1 b=2", text(s.commit()))
	}

	if !s.put(kv("b", "bad", 5)) || text(s.commit()) != "a=1" || len(malformed) != 2 {
		t.Errorf("after the same malformed value again: the set has %q, reported %q, "+
			"want a=1 and 2 reports", text(s.commit()), malformed)
	}
}

func TestSet_KeepsUnchangedEntries(t *testing.T) {
	s := newSet(new([]string))
	s.replace([]*mvccpb.KeyValue{kv("a", "1", 1), kv("b", "1", 1)})
	before := s.commit()
	s.replace([]*mvccpb.KeyValue{kv("a", "1", 9), kv("b", "1", 9)})
	s.put(kv("b", "2", 10))

	moved := kv("c", "1", 11)
	s.put(moved)

	moved.Lease = 7
	if !s.put(moved) || s.put(moved) || s.get("c").Lease != 7 {
		t.Errorf("an entry put on lease 7 twice is %+v, "+
			"want lease 7, and a change by the first put alone", s.get("c"))
	}

	s.remove("c")

	after := s.commit()
	if before[0] != after[0] || before[1] == after[1] || text(before) != "a=1 b=1" {
		t.Errorf("%q became %q: want a kept, b new, and the old snapshot as it was",
			text(before), text(after))
	}
}

// created returns an entry that was put once, at a revision.
func created(key, value string, revision int) *mvccpb.KeyValue {
	k := kv(key, value, revision)
	k.CreateRevision = int64(revision)

	return k
}

// newBounded returns a set with room for three entries, and in bytes for three
// entries with values of 2,000 bytes.
func newBounded(malformed *[]string) set[string] {
	s := newSet(malformed)
	s.size = func(v string) int { return len(v) }
	s.bounds = Bounds{Entries: 3, Bytes: 3 * (itemSize + 1 + 2000)}

	return s
}

func value(name string, size int) string {
	return name + strings.Repeat("x", size-len(name))
}

// TestSetIsBounded checks that a set takes as much of a range as the bounds
// allow.
func TestSetIsBounded(t *testing.T) {
	big := 2000
	type kvs = []*mvccpb.KeyValue

	known := kvs{created("m", value("1", big), 5), created("n", value("1", big), 6)}
	for _, tt := range []struct {
		name string
		do   func(s *set[string])
		want string
		full bool // entries are left out
	}{
		{"an entry beyond the bound is left out", func(s *set[string]) {
			s.put(created("a", "1", 9))
			s.put(created("b", "1", 9))
		}, "a=1 m=1 n=1", true},
		{"an entry that grows too large is left out", func(s *set[string]) {
			s.put(created("a", value("1", big), 9))
			s.put(kv("m", value("2", big+1), 10))
		}, "a=1 n=1", true},
		{"a removed entry makes room", func(s *set[string]) {
			s.put(created("a", "1", 9))
			s.remove("m")
			s.put(created("b", "1", 10))
		}, "a=1 b=1 n=1", false},
		{"the first keys of a list are kept", func(s *set[string]) {
			s.replace(append(kvs{created("a", "1", 9), created("b", "1", 8)}, known...))
		}, "a=1 b=1 m=1", true},
		{"no key after the first that exceeds the bounds is kept", func(s *set[string]) {
			a := created("a", value("1", 2*big), 9)
			b := created("b", value("1", 2*big), 8)
			s.replace(append(kvs{a, b}, known...))
		}, "a=1", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newBounded(new([]string))
			s.replace(known)
			tt.do(&s)

			var parts []string
			for _, item := range s.commit() {
				parts = append(parts, item.Key+"="+item.Value[:1])
			}

			if got := strings.Join(parts, " "); got != tt.want || s.truncated != tt.full {
				t.Errorf("the set has %q, truncated is %v, want %q and %v",
					got, s.truncated, tt.want, tt.full)
			}
		})
	}
}

// Removed entries are published within the bounds.
func TestSet_BoundsRemovedEntries(t *testing.T) {
	s := newBounded(new([]string))
	for n := range 100 {
		s.put(created(fmt.Sprint(n), value("1", 1500), n))
		s.remove(fmt.Sprint(n))
	}

	if n := len(s.takeRemoved()); n != 3 || len(s.changes) != 0 {
		t.Errorf("%d removed entries and %d changes are held, want 3 and 0", n, len(s.changes))
	}

	s.put(created("a", "1", 100))
	s.remove("a")

	if n := len(s.takeRemoved()); n != 1 {
		t.Errorf("%d removed entries are published later, want 1", n)
	}
}

// The set remembers at most maxBad malformed values as reported, and still
// reports every further value.
func TestSet_BoundsReportedValues(t *testing.T) {
	reported := []string{}
	s := newSet(&reported)
	for n := range 2 * maxBad {
		s.put(kv(fmt.Sprint(n), "bad", 1))
	}

	if len(s.bad) > maxBad || len(reported) != 2*maxBad {
		t.Errorf("%d values are remembered and %d reported, want at most %d and %d",
			len(s.bad), len(reported), maxBad, 2*maxBad)
	}
}

// The log says that entries begin to be left out, and later that all fit again.
func TestCore_LogsTruncation(t *testing.T) {
	const (
		full = "etcd has more under the key than is kept"
		fits = "all that etcd has under the key is kept again"
	)

	a := created("a", "1", 5)
	b := created("b", "1", 6)
	c := created("c", "1", 7)
	core := testCore()
	core.replica.set.size = func(v string) int { return len(v) }
	core.replica.set.bounds = Bounds{Entries: 2}

	core.follow(t,
		rule{0, ok, "list"},
		rule{0, read(list(10, a, b, c)), full + ", publish [a=1 b=1], watch from 11, wait 4s"},
		rule{0, opened, "wait 4s"},
		rule{1 * time.Second, answered(events(11, put("d", "1", 11))), "wait 30s"},
		rule{2 * time.Second, answered(events(12, del("a", 12))),
			"publish [b=1] without a=1, wait 29s"},
		rule{3 * time.Second, keys(13, 2, 13), "list"},
		rule{3 * time.Second, read(list(13, b, c)), fits + ", publish [b=1 c=1], wait 4s"},
	)
}

// Writers of the range cause few log lines.
func TestCore_LimitsLogLines(t *testing.T) {
	c := testCore()
	lines := 0
	c.follow(t, watching...)

	for n := range 100 {
		bad := put("x", fmt.Sprint("bad", n), 11+n)
		lines += len(c.step(answered(events(11+n, bad)), start).notes)
	}

	if lines != 5 {
		t.Errorf("%d lines for 100 malformed values, want 5", lines)
	}
}
