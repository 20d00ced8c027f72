package console

import (
	"fmt"
	"html/template"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// Bounds of texts from etcd, in bytes.
const (
	maxCell = 96
	maxLong = 2 << 10
)

// functions are those of the templates. Whatever may come from etcd goes through cell, long or line.
var functions = template.FuncMap{
	"id":       id,
	"policies": liveconfig.PolicyNames,
	"named":    named,
	"cell":     func(s string) string { return printable.Short(s, maxCell) },
	"long":     func(s string) string { return printable.Short(s, maxLong) },
	"line":     printable.Text,
	"lines":    lines,
	"at":       at,
	"list":     list,
	"percent":  percent,
	"time":     timeElement,
	"words":    matchWords,
	"match":    matchText,
	"steps":    func() []int { return steps },
	"starters": func() any { return starters },
	"share":    percentText,
	"yes":      yes,
	"seconds":  output.Seconds,
}

// id identifies a key within a page.
func id(key string) string { return strconv.FormatUint(sum(key), 36) }

// maxNamed bounds a key or an instance id that is part of an address, in bytes.
const maxNamed = 1 << 10

// named reports whether a key can be part of an address of the console.
func named(key string) bool { return len(key) <= maxNamed }

// yes returns the value of a box that is checked, and "" for one that is not.
func yes(checked bool) string {
	if checked {
		return "yes"
	}
	return ""
}

// lines returns text of several lines, each of them escaped.
func lines(s string) string {
	all := strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	for n, line := range all {
		all[n] = printable.Text(line)
	}
	return strings.Join(all, "\n")
}

// list returns the first of some names, and how many more there are.
func list(names []string) string {
	const shown = 4
	more := ""
	if len(names) > shown {
		names, more = names[:shown], fmt.Sprintf(" +%d", len(names)-shown)
	}
	cut := make([]string, len(names))
	for n, name := range names {
		cut[n] = printable.Short(name, maxCell/shown)
	}
	return strings.Join(cut, ", ") + more
}

// timeElement returns a time for the script, which shows it as the reader's clock does.
func timeElement(t time.Time) template.HTML {
	t = t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s UTC</time>`, t.Format(time.RFC3339), t.Format(time.DateTime))) //nolint:gosec // a time has nothing to escape
}

// percent returns a share; one below 0 is not known.
func percent(share float64) string {
	if share < 0 {
		return "–"
	}
	return strconv.FormatFloat(share, 'f', 1, 64) + "\u00a0%"
}

// at returns a path with parameters, given as names and values.
func at(path string, params ...string) string {
	values := url.Values{}
	for i := 0; i < len(params); i += 2 {
		if params[i+1] != "" {
			values.Set(params[i], params[i+1])
		}
	}
	if len(values) == 0 {
		return path
	}
	return path + "?" + values.Encode()
}

// number reads a number from a form; what is none is 0.
func number(text string) int {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0
	}
	return n
}
