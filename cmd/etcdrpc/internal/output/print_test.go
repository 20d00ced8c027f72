package output

import (
	"strings"
	"testing"
)

// TestTable aligns columns after wide characters, and one wide cell does not pad other lines.
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
			t.Errorf("%s:\n%swant:\n%s", tc.name, out.String(), tc.want)
		}
	}
}
