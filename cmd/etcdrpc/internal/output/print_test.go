package output

import (
	"slices"
	"strings"
	"testing"
)

// TestTable checks that columns are aligned after wide characters, and that one wide cell does not pad other lines.
func TestTable(t *testing.T) {
	hostile := strings.Repeat("x", 300)
	for _, tc := range []struct {
		name string
		rows [][]string
		want string
	}{
		{"plain", [][]string{{"a", "", "ok"}, {"bcd", "1", ""}}, "ID   N  STATE\na    -  ok\nbcd  1\n"},
		{"wide", [][]string{{"漢字", "1", "ok"}, {"größe", "2", "ok"}}, "ID     N  STATE\n漢字   1  ok\ngröße  2  ok\n"},
		{"hostile", [][]string{{hostile, "1", "ok"}, {"a", "2", "ok"}},
			"ID  N  STATE\n" + hostile[:MaxCell] + "... (300 bytes)  1  ok\na   2  ok\n"},
	} {
		var out strings.Builder
		if Table(&out, []string{"ID", "N", "STATE"}, tc.rows); out.String() != tc.want {
			t.Errorf("%s: Table prints\n%swant\n%s", tc.name, out.String(), tc.want)
		}
	}
}

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
			t.Errorf("Diff(%q, %q) = %q, want %q", tc.before, tc.after, got, tc.want)
		}
	}
}
