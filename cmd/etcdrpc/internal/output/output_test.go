package output

import (
	"bytes"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestTable checks that columns are aligned after wide characters, and that one
// wide cell does not pad other lines.
func TestTable(t *testing.T) {
	hostile := strings.Repeat("x", 300)
	for _, tc := range []struct {
		name string
		rows [][]string
		want string
	}{
		{"plain", [][]string{{"a", "", "ok"}, {"bcd", "1", ""}},
			"ID   N  STATE\na    -  ok\nbcd  1\n"},
		{"wide", [][]string{{"漢字", "1", "ok"}, {"größe", "2", "ok"}},
			"ID     N  STATE\n漢字   1  ok\ngröße  2  ok\n"},
		{"hostile", [][]string{{hostile, "1", "ok"}, {"a", "2", "ok"}},
			"ID  N  STATE\n" + hostile[:MaxCell] + "... (300 bytes)  1  ok\na   2  ok\n"},
	} {
		var out strings.Builder
		Table(&out, []string{"ID", "N", "STATE"}, tc.rows)

		if out.String() != tc.want {
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

// TestShell checks that all shells on the PATH read a word alike, or that a
// placeholder replaces the word.
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
			got := strings.TrimPrefix(string(out), "--|")
			if err != nil || got != word+"|" {
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

// TestUnread checks that end writes the queued lines, and does not wait for a
// stalled reader.
func TestUnread(t *testing.T) {
	var got bytes.Buffer
	w, end := Unread(&got)
	Sayf(w, "one\n")
	end()

	if got.String() != "one\n" {
		t.Errorf("the reader got %q, want %q", &got, "one\n")
	}

	_, stuck := io.Pipe()
	t.Cleanup(func() { _ = stuck.Close() }) // never an error

	w, end = Unread(stuck)
	for range 3000 {
		Sayf(w, "line\n")
	}

	end()
}
