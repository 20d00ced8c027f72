package output

import (
	"slices"
	"testing"
)

func TestDiff(t *testing.T) {
	for _, tc := range []struct{ name, before, after, want string }{
		{"nothing", "", "", ""},
		{"same", "a\nb", "a\nb", "  a\n  b\n"},
		{"new", "", "a\nb\n", "+ a\n+ b\n"},
		{"gone", "a", "", "- a\n"},
		{"replaced", "a\nb\nc", "a\nx\nc", "  a\n- b\n+ x\n  c\n"},
		{"moved", "a\nb\nc", "b\nc\na", "- a\n- b\n- c\n+ b\n+ c\n+ a\n"},
	} {
		if got := Diff(tc.before, tc.after); !slices.Equal(got, Lines(tc.want)) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
