package output

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// maxWord bounds a word of a command that is shown, in bytes.
const maxWord = 512

// NoWord stands for a word that no command line can hold. Shells refuse it.
const NoWord = "<KEY>"

// Shell quotes a word for a shell, if it needs quotes, so that a command that is shown is one line and names exactly
// this word. A word that does not print is quoted with a dollar sign before the quote, which bash, zsh and ksh know. A
// word that begins with a dash follows "--", so that it is no flag.
func Shell(word string) string {
	quoted := word
	switch {
	case strings.Contains(word, "\x00") || len(word) > maxWord:
		return NoWord
	case printable.Text(word) != word:
		quoted = "$'" + escaped(word) + "'"
	case word == "" || strings.ContainsFunc(word, quotable):
		quoted = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	if strings.HasPrefix(word, "-") {
		return "-- " + quoted
	}
	return quoted
}

// Word returns a service key as a command takes it, after the flag that says in which namespace it is; "": in none.
func Word(namespace, key string) string {
	if namespace == "" {
		return Shell(key)
	}
	return "--namespace=" + strings.TrimPrefix(Shell(namespace), "-- ") + " " + Shell(key)
}

// escaped returns a word as it is written between the quotes that follow a dollar sign.
func escaped(word string) string {
	var out strings.Builder
	for len(word) > 0 {
		r, size := utf8.DecodeRuneInString(word)
		switch part := word[:size]; {
		case r == '\'' || r == '\\':
			out.WriteString(`\` + part)
		case printable.Text(part) == part:
			out.WriteString(part)
		default:
			for i := range len(part) {
				fmt.Fprintf(&out, `\%03o`, part[i])
			}
		}
		word = word[size:]
	}
	return out.String()
}

// quotable reports whether a word with r is quoted: some shell may take r for something else than itself.
func quotable(r rune) bool { return r >= utf8.RuneSelf || special(r) }

// special reports whether shells may take r for something else than itself. Letters of any language are not special.
func special(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/._-:@%+=,", r)
}

// Offered returns the words that a shell can complete without quotes. The completion scripts do not quote in every
// shell.
func Offered(words []string) []string {
	var all []string
	for _, word := range words {
		if completable(word) {
			all = append(all, word)
		}
	}
	return all
}

func completable(word string) bool {
	switch {
	case word == "" || len(word) > maxWord || !utf8.ValidString(word):
		return false
	case strings.HasPrefix(word, "-") || strings.HasPrefix(word, "_activeHelp_"): // it would be a flag, or cobra's
		return false
	}
	return !strings.ContainsFunc(word, special)
}
