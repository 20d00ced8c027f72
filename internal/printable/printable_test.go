package printable

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"acme/user", "acme/user"},
		{`a\nb "c"`, `a\nb "c"`},
		{"größe/漢字/é", "größe/漢字/é"},
		{"a\nb\tc\r", `a\nb\tc\r`},
		{"\x1b[2J", `\x1b[2J`},
		{"a\u202eb\u2066\u200b\ufeff", `a\u202eb\u2066\u200b\ufeff`},
		{"\u2028\u2029\u0085\u00a0", `\u2028\u2029\u0085\u00a0`},
		{"a\xff\xfeb", `a\xff\xfeb`},
		{"\ufffd", "\ufffd"},
		{"\U000e0001", `\U000e0001`},
		{"\x00\x7f", `\x00\x7f`},
		{"a\u034f\ufe0f\U000e0100\u115f\u1160\u3164\uffa0\u2800", `a\u034f\ufe0f\U000e0100\u115f\u1160\u3164\uffa0\u2800`}, // what shows nothing would make two keys look alike
	} {
		if got := Text(tt.in); got != tt.want {
			t.Errorf("Text(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestShort(t *testing.T) {
	for _, tt := range []struct {
		in   string
		max  int
		want string
	}{
		{"abc", 3, "abc"},
		{"abcd", 3, "abc... (4 bytes)"},
		{"ab\nd", 3, `ab\n... (4 bytes)`},
		{"abé", 3, "ab... (4 bytes)"},
		{"\xff\xff\xff\xff\xff\xff", 5, `\xff\xff\xff\xff\xff... (6 bytes)`},
		{"\x80\x80", 1, "... (2 bytes)"},
	} {
		if got := Short(tt.in, tt.max); got != tt.want {
			t.Errorf("Short(%q, %d) = %q, want %q", tt.in, tt.max, got, tt.want)
		}
	}
}

func TestJSON(t *testing.T) {
	for _, value := range []any{"a\u202eb", "a\nb", "\U000e0001x", "\x1b\x7f\u0085", map[string]any{"k\u2066": []any{"漢", 1.5, nil}}} {
		text, err := json.MarshalIndent(value, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		got := JSON(text)
		var back any
		if err := json.Unmarshal(got, &back); err != nil || !reflect.DeepEqual(back, value) {
			t.Errorf("JSON of %q reads as %#v, %v", text, back, err)
		}
		for _, r := range string(got) {
			if !unicode.IsPrint(r) && r != '\n' && r != '\t' {
				t.Errorf("%q has %q", got, r)
			}
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"a\u202eb", "\xff\n", strings.Repeat("é", 9), "\U000e0001\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Text(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("Text(%q) = %q", s, got)
		}
		if Text(got) != got {
			t.Errorf("Text of %q is not its own", got)
		}
		Short(s, len(s)/2)
		if text, err := json.Marshal(s); err == nil {
			var a, b string
			if json.Unmarshal(text, &a) != nil || json.Unmarshal(JSON(text), &b) != nil || a != b {
				t.Errorf("JSON(%q) says something else", text)
			}
		}
	})
}
