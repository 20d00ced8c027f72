package candidate

import "testing"

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
