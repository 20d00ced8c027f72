package printablejson

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"a\u202eb", "\xff\n", strings.Repeat("é", 9), "\U000e0001\u2028",
		"\x1b\x7f\u0085", "k\u2066"} {
		f.Add(s)
	}

	f.Fuzz(func(t *testing.T, s string) {
		text, err := json.MarshalIndent(map[string]any{s: []any{s, 1.5, nil}}, "", "\t")
		if err != nil {
			return
		}

		got := Escape(text)
		unprintable := func(r rune) bool {
			return !unicode.IsPrint(r) && r != '\n' && r != '\t'
		}

		var a, b any
		if json.Unmarshal(text, &a) != nil ||
			json.Unmarshal(got, &b) != nil ||
			!reflect.DeepEqual(a, b) ||
			strings.ContainsFunc(string(got), unprintable) {
			t.Errorf("Escape(%q) = %q, want printable JSON of the same value", text, got)
		}
	})
}
