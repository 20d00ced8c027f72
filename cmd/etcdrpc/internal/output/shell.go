package output

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// maxWord bounds a printed word of a command, in bytes.
const maxWord = 512

// NoWord stands for a word that no command line can contain. Shells reject NoWord.
const NoWord = "<KEY>"

// Shell quotes a word for a shell, if necessary. A word with unprintable characters is quoted by $'...', which bash, zsh and
// ksh support. If a word begins with a dash, Shell returns "--" and the word, so that no command reads the word as a flag.
func Shell(word string) string {
	quoted := word
	switch {
	case strings.Contains(word, "\x00") || len(word) > maxWord:
		return NoWord
	case printable.Text(word) != word:
		quoted = "$'" + escaped(word) + "'"
	case word == "" || strings.ContainsFunc(word, needsQuotes):
		quoted = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	if strings.HasPrefix(word, "-") {
		return "-- " + quoted
	}
	return quoted
}

// Word returns a service key and more words quoted for a command line, after --namespace unless namespace is "". One "--" comes
// first if a word begins with a dash.
func Word(namespace, key string, more ...string) string {
	words := Shell(key)
	for _, word := range more {
		quoted, dashed := strings.CutPrefix(Shell(word), "-- ")
		if dashed && !strings.HasPrefix(words, "-- ") {
			words = "-- " + words
		}
		words += " " + quoted
	}
	if namespace == "" {
		return words
	}
	return "--namespace=" + strings.TrimPrefix(Shell(namespace), "-- ") + " " + words
}

// escaped returns a word escaped for $'...'.
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

// needsQuotes reports whether a word with r must be quoted, because some shell may treat r as special.
func needsQuotes(r rune) bool {
	return r >= utf8.RuneSelf || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/._-:@%+=,", r)
}

// Offered returns the words that a shell can complete without quotes, because some completion scripts do not quote. Offered also
// drops words with the prefix of cobra's messages.
func Offered(words []string) []string {
	return slices.DeleteFunc(words, func(word string) bool { return Shell(word) != word || strings.HasPrefix(word, "_activeHelp_") })
}
