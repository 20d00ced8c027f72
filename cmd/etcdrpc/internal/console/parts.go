package console

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"html/template"
	"slices"
	"strconv"
	"strings"
)

// view is the model of a page.
type view interface{ base() *frame } // nil: it has none

// tabular is a view with a table whose rows come and go.
type tabular interface{ tableRows() []keyed }

// keyed is a row of a table, which has a key on its page.
type keyed interface{ rowKey() string }

// content is what a page shows, in pieces. Each has a template of its own, "page#id"; those named "frame#id" are on all
// pages, and a row of the page's table has "page##id". A page that follows is sent the pieces that have become others.
type content struct {
	name  string                   // of the page
	parts map[string]template.HTML // by the ids of the elements that they fill
	table string                   // the id of the table's body; "": there is none
	rows  []tableRow
}

type tableRow struct {
	key  string
	html template.HTML
}

func (c *Console) render(name string, v view) (*content, error) {
	out := &content{name: name, parts: make(map[string]template.HTML)}
	for _, t := range c.pages.Templates() {
		owner, part, found := strings.Cut(t.Name(), "#")
		if !found || owner != "frame" && owner != name {
			continue
		}
		table, isRow := strings.CutPrefix(part, "#")
		if !isRow {
			html, err := execute(t, v)
			if err != nil {
				return nil, err
			}
			out.parts[part] = html
			continue
		}
		out.table = table
		for _, row := range v.(tabular).tableRows() {
			html, err := execute(t, row)
			if err != nil {
				return nil, err
			}
			out.rows = append(out.rows, tableRow{id(row.rowKey()), html})
		}
	}
	return out, nil
}

func execute(t *template.Template, model any) (template.HTML, error) {
	var out bytes.Buffer
	if err := t.Execute(&out, model); err != nil {
		return "", fmt.Errorf("template %s: %w", t.Name(), err)
	}
	return template.HTML(out.String()), nil //nolint:gosec // a template has escaped it
}

// Part returns a piece for the page.
func (c *content) Part(id string) template.HTML {
	if id != c.table {
		return c.parts[id]
	}
	var out strings.Builder
	for _, row := range c.rows {
		out.WriteString(string(row.html))
	}
	return template.HTML(out.String()) //nolint:gosec // templates have escaped it
}

// shown is what a browser has of a page: sums of its pieces.
type shown struct {
	name  string // of the page
	parts map[string]uint64
	keys  []string
	rows  map[string]uint64
}

// sums returns what a browser has that shows a page.
func (c *content) sums() shown {
	s := shown{name: c.name, parts: make(map[string]uint64, len(c.parts)), rows: make(map[string]uint64, len(c.rows))}
	for id, html := range c.parts {
		s.parts[id] = sum(string(html))
	}
	for _, row := range c.rows {
		s.keys, s.rows[row.key] = append(s.keys, row.key), sum(string(row.html))
	}
	return s
}

// seed makes sums that nobody can foresee, or a row could be given the key of another, which then is not sent any more.
var seed = maphash.MakeSeed()

func sum(text string) uint64 { return maphash.String(seed, text) }

// version is a text that differs whenever a page does.
func (s shown) version() string {
	var all []string
	for id, n := range s.parts {
		all = append(all, fmt.Sprint(id, n))
	}
	slices.Sort(all)
	for _, key := range s.keys {
		all = append(all, fmt.Sprint(key, s.rows[key]))
	}
	return strconv.FormatUint(sum(strings.Join(all, " ")), 36)
}

// news is what a browser is sent of a page.
type news struct {
	Parts map[string]template.HTML `json:"parts,omitempty"`
	Table string                   `json:"table,omitempty"`
	Whole bool                     `json:"whole,omitempty"` // Rows are all that there are
	Gone  []string                 `json:"gone,omitempty"`  // keys of rows
	Rows  []rowNews                `json:"rows,omitempty"`  // in their order
}

// rowNews is a row that has come, is another, or has moved.
type rowNews struct {
	Key   string        `json:"key"`
	After string        `json:"after"`          // the key of the row before; "": it is the first
	HTML  template.HTML `json:"html,omitempty"` // "": as it was
}

func (n *news) empty() bool { return len(n.Parts)+len(n.Gone)+len(n.Rows) == 0 }

// since returns what a browser lacks of the page. A piece that the page has no more stays there.
func (c *content) since(old shown) *news {
	n := &news{Parts: make(map[string]template.HTML), Table: c.table, Whole: c.table != "" && old.parts == nil}
	for id, html := range c.parts {
		if had, known := old.parts[id]; !known || had != sum(string(html)) {
			n.Parts[id] = html
		}
	}
	if c.table == "" {
		return n
	}
	now := c.sums()
	before := make(map[string]string) // the row before each that stays
	last := ""
	for _, key := range old.keys {
		if _, stays := now.rows[key]; !stays {
			n.Gone = append(n.Gone, key)
			continue
		}
		before[key], last = last, key
	}
	last = ""
	for _, row := range c.rows {
		had, known := old.rows[row.key]
		change := rowNews{Key: row.key, After: last}
		if !known || had != now.rows[row.key] {
			change.HTML = row.html
		}
		if !known || change.HTML != "" || before[row.key] != last {
			n.Rows = append(n.Rows, change)
		}
		last = row.key
	}
	return n
}

// merge returns what a browser has that has taken in a page.
func (s shown) merge(now shown, table bool) shown {
	for id, n := range s.parts {
		if _, there := now.parts[id]; !there {
			now.parts[id] = n
		}
	}
	if !table {
		now.keys, now.rows = s.keys, s.rows
	}
	return now
}
