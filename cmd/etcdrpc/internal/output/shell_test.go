package output

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestShell(t *testing.T) {
	for word, want := range map[string]string{
		"acme/user/10.0.0.7:9000":  "acme/user/10.0.0.7:9000",
		"":                         "''",
		"a b":                      "'a b'",
		"it's; rm":                 `'it'\''s; rm'`,
		"größe":                    "'größe'",
		"a\nb":                     `$'a\012b'`,
		"it's\t\\\x1b":             `$'it\'s\011\\\033'`,
		"ü\u202e\xff":              `$'ü\342\200\256\377'`,
		"--prefix":                 "-- --prefix",
		"-\n":                      `-- $'-\012'`,
		"a\x00b":                   "<KEY>",
		strings.Repeat("x", 1<<20): "<KEY>",
	} {
		if got := Shell(word); got != want {
			t.Errorf("Shell(%.40q) = %.80s, want %s", word, got, want)
		}
		if bash, err := exec.LookPath("bash"); err == nil && want != NoWord {
			out, err := exec.CommandContext(t.Context(), bash, "-c", `set -- x `+want+`; [ "$2" = -- ] && shift; printf %s "$2"`).Output()
			if err != nil || string(out) != word {
				t.Errorf("bash reads %s as %q, %v, want %q", want, out, err, word)
			}
		}
	}
}

func TestOffered(t *testing.T) {
	words := []string{"acme/user", "10.0.0.7:9000", "größe", "a b", "a\tb", "a\nb", "$(x)", "`x`", "a;b", "a'b", "~", "-x", "*", "_activeHelp_ x",
		"a\x1b", "a\u202e", "a\xff", "", strings.Repeat("x", 1<<20)}
	if got := Offered(slices.Clone(words)); !slices.Equal(got, words[:2]) {
		t.Errorf("Offered() = %q, want %q", got, words[:2])
	}
}
