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

func TestSeconds(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0s", 59: "59s", 60: "1m", 90: "1m30s", 3600: "1h", 3660: "1h1m", 3601: "1h0m1s", 100_000: "27h46m40s",
		172_800: "2d", 31_535_972: "364d 23h", 1 << 62: "106751d 23h",
	} {
		if got := Seconds(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
