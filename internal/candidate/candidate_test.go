package candidate

import (
	"strings"
	"testing"
)

func TestPrecedes(t *testing.T) {
	order := []First{{"b", 4}, {"a", 5}, {"c", 5}, {"d", 5}, {"a", 6}, {}}
	for i, a := range order {
		for j, b := range order {
			if got := a.Precedes(b); a != (First{}) && got != (i < j) {
				t.Errorf("%v precedes %v: %v, want %v", a, b, got, i < j)
			}
		}
	}
}

func TestPrefix(t *testing.T) {
	keys := []string{"a", "/a", "a/b", "/a/b", "a/b/c", "ab"}
	for _, one := range keys {
		for _, other := range keys {
			if one != other && strings.HasPrefix(Prefix(other)+"X", Prefix(one)) {
				t.Errorf("Prefix(%q) is a prefix of Prefix(%q), want separate ranges", one, other)
			}
		}
	}
}
