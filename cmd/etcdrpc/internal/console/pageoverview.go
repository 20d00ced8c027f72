package console

import (
	"strconv"
	"strings"
)

// overviewRows bounds the services on one page.
const overviewRows = 250

// overviewPage is the table of services.
type overviewPage struct {
	frame
	Query     string
	Rows      []Summary
	Found     int // services that match the query
	Instances int // of these
	Pager     pager
}

// newOverview finds the services that a query matches.
func newOverview(f frame, query string, page int) *overviewPage {
	p := &overviewPage{frame: f, Query: query}
	var found []Summary
	for _, s := range f.Fleet.Services {
		if s.matches(query) {
			found = append(found, s)
			p.Instances += s.Counts.Total()
		}
	}
	p.Found = len(found)
	p.Pager = newPager(len(found), overviewRows, page, func(page string) string { return at("/", "q", query, "page", page) })
	p.Rows = found[p.Pager.from:p.Pager.to]
	return p
}

// matches reports whether each word of a query is in the key, a zone or a version.
func (s *Summary) matches(query string) bool {
	for _, word := range strings.Fields(strings.ToLower(query)) {
		if !contains(word, s.Key) && !contains(word, s.Zones...) && !contains(word, s.Versions...) {
			return false
		}
	}
	return true
}

// contains reports whether one of the texts has a word, which is in lower case.
func contains(word string, texts ...string) bool {
	for _, text := range texts {
		if strings.Contains(strings.ToLower(text), word) {
			return true
		}
	}
	return false
}

// pager divides rows into pages.
type pager struct {
	Page, Pages    int // from 1 on
	Before, After  string
	First, Last, N int // rows shown, from 1 on, and how many there are
	from, to       int
}

func newPager(rows, size, page int, link func(page string) string) pager {
	p := pager{N: rows, Pages: max(1, (rows+size-1)/size)}
	p.Page = min(max(page, 1), p.Pages)
	p.from = (p.Page - 1) * size
	p.to = min(p.from+size, rows)
	p.First, p.Last = min(p.from+1, rows), p.to
	if p.Page > 1 {
		p.Before = link(strconv.Itoa(p.Page - 1))
	}
	if p.Page < p.Pages {
		p.After = link(strconv.Itoa(p.Page + 1))
	}
	return p
}
