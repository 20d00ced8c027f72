package printable

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "",
		"acme/user":                  "acme/user",
		`a\nb "c"`:                   `a\nb "c"`,
		"größe/漢字/é":                 "größe/漢字/é",
		"a\nb\tc\r":                  `a\nb\tc\r`,
		"\x1b[2J":                    `\x1b[2J`,
		"a\u202eb\u2066\u200b\ufeff": `a\u202eb\u2066\u200b\ufeff`,
		"\u2028\u2029\u0085\u00a0":   `\u2028\u2029\u0085\u00a0`,
		"a\xff\xfeb":                 `a\xff\xfeb`,
		"\ufffd":                     "\ufffd",
		"\U000e0001":                 `\U000e0001`,
		"\x00\x7f":                   `\x00\x7f`,
		// with invisible characters, two keys would look alike
		"a\u034f\ufe0f\U000e0100\u115f\u1160\u3164\uffa0\u2800": `a\u034f\ufe0f\U000e0100\u115f\u1160\u3164\uffa0\u2800`,
	} {
		if got := Text(text); got != want {
			t.Errorf("Text(%q) = %q, want %q", text, got, want)
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

func FuzzText(f *testing.F) {
	for _, s := range []string{"a\u202eb", "\xff\n", strings.Repeat("é", 9), "\U000e0001\u2028",
		"\x1b\x7f\u0085", "k\u2066"} {
		f.Add(s)
	}

	f.Fuzz(func(t *testing.T, s string) {
		got := Text(s)
		unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
		if !utf8.ValidString(got) || strings.ContainsFunc(got, unprintable) {
			t.Errorf("Text(%q) = %q, want printable text", s, got)
		}

		if Text(got) != got {
			t.Errorf("Text(%q) = %q, want no change", got, Text(got))
		}

		Short(s, len(s)/2)
	})
}
