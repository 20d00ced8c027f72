package output

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestShell checks that all shells on the PATH read a word alike, or that a placeholder stands for the word.
func TestShell(t *testing.T) {
	for word, want := range map[string]string{
		"acme/user/10.0.0.7:9000":  "acme/user/10.0.0.7:9000",
		"v2=10":                    "v2=10",
		"":                         "''",
		"a b":                      "'a b'",
		"=ls":                      "'=ls'",
		"$(x)`y`; !!*?[a]#@b{c}%d": "'$(x)`y`; !!*?[a]#@b{c}%d'",
		`C:\ca\new.pem`:            `'C:\ca\new.pem'`,
		"größe":                    "'größe'",
		"-":                        "-",
		"-x":                       "-- '-x'",
		"--user=x":                 "-- --user=x",
		"it's":                     NoWord,
		"it’s":                     NoWord,
		`a"b`:                      NoWord,
		`a\`:                       NoWord,
		`a\\b`:                     NoWord,
		"a\nb":                     NoWord,
		"ü\u202e\xff":              NoWord,
		strings.Repeat("x", 1<<20): NoWord,
	} {
		if got := Shell(word); got != want {
			t.Errorf("Shell(%.40q) = %.80s, want %s", word, got, want)
		}
		for _, name := range []string{"sh", "bash", "zsh", "fish"} {
			shell, err := exec.LookPath(name)
			if err != nil || want == NoWord {
				continue
			}
			out, err := exec.CommandContext(t.Context(), shell, "-c", `printf '%s|' `+want).Output()
			if got := strings.TrimPrefix(string(out), "--|"); err != nil || got != word+"|" {
				t.Errorf("%s reads %s as %q, %v, want %q", name, want, out, err, word)
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
