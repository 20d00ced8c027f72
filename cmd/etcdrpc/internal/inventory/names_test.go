package inventory

import (
	"cmp"
	"testing"
)

func TestCompareNames(t *testing.T) {
	inOrder := []string{"", "10.0.0.5:80", "10.0.0.5:443", "10.0.0.10:80", "10.0.0.010:80", "10.0.0.010:81", "a", "a-2", "a-2b", "a-18446744073709551617", "b1"}
	for i, a := range inOrder {
		for k, b := range inOrder {
			if got, want := CompareNames(a, b), cmp.Compare(i, k); got != want {
				t.Errorf("CompareNames(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
}
