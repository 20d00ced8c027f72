package listwatch

import (
	"errors"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// newSet returns a set whose values are strings; "bad" is malformed, "other" does not belong to the range.
func newSet(malformed *[]string) set[string] {
	return set[string]{
		decode: func(entry *mvccpb.KeyValue) (string, bool, error) {
			switch v := string(entry.Value); {
			case strings.HasPrefix(v, "bad"):
				return "", true, errors.New("malformed")
			case v == "other":
				return "", false, nil
			default:
				return v, true, nil
			}
		},
		equal:     func(a, b string) bool { return a == b },
		malformed: func(key string, _ error) { *malformed = append(*malformed, key) },
	}
}

// replace loads a list that comes as a whole.
func (s *set[T]) replace(kvs []*mvccpb.KeyValue) bool {
	l := s.load()
	l.add(kvs)
	return l.finish()
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
		t.Errorf("%q, reported %q, want a=1 and one report", got, malformed)
	}
	if s.put(kv("b", "bad too", 3)); len(malformed) != 2 {
		t.Errorf("reported %q, want a report of another malformed value", malformed)
	}
	if !s.put(kv("b", "2", 4)) || text(s.commit()) != "a=1 b=2" {
		t.Errorf("a mended value is not taken: %q", text(s.commit()))
	}
	if !s.put(kv("b", "bad", 5)) || text(s.commit()) != "a=1" || len(malformed) != 2 {
		t.Errorf("%q, reported %q, want the value dropped, and reported no more", text(s.commit()), malformed)
	}
}

func TestSetKeepsWhatDoesNotChange(t *testing.T) {
	s := newSet(new([]string))
	s.replace([]*mvccpb.KeyValue{kv("a", "1", 1), kv("b", "1", 1)})
	before := s.commit()
	if s.replace([]*mvccpb.KeyValue{kv("a", "1", 9), kv("b", "1", 9)}) {
		t.Error("an equal list is a change")
	}
	s.put(kv("b", "2", 10))
	moved := kv("c", "1", 11)
	s.put(moved)
	moved.Lease = 7
	if !s.put(moved) || s.put(moved) || s.get("c").Lease != 7 {
		t.Errorf("an entry that is put on another lease: %+v", s.get("c"))
	}
	s.remove("c")
	after := s.commit()
	if before[0] != after[0] || before[1] == after[1] || text(before) != "a=1 b=1" {
		t.Errorf("%q became %q: want a kept, b new, and the old snapshot as it was", text(before), text(after))
	}
}
