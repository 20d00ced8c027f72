package console

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const overviewRows = 100

func (c *Console) overview(r *http.Request) (*answer, error) {
	return &answer{template: "overview", model: newOverview(c.frame("Services"), r.Form)}, nil
}

type overviewPage struct {
	frame
	Query     string
	Show      string // the name of the fact that services are to have; "": any
	Facts     []shownFact
	Rows      []overviewRow
	Found     int // services that match
	Instances int // of these
	Pager     pager
}

func (p *overviewPage) tableRows() (all []keyed) {
	for n := range p.Rows {
		all = append(all, &p.Rows[n])
	}
	return all
}

type overviewRow struct {
	*Summary
	Link string // "": its key is too long for one
}

func (r *overviewRow) rowKey() string { return r.Key }

// facts are what one may want to see of a fleet at once, the most urgent first.
var facts = []struct {
	name, one, many string
	bad             bool
	count           func(s *Summary) int
}{
	{"attention", "needs attention", "need attention", true, func(s *Summary) int { return oneIf(s.Ill()) }},
	{"refused", "config refused", "configs refused", true, func(s *Summary) int { return oneIf(s.Policy == PolicyRefused) }},
	{"down", "service without a callable instance", "services without a callable instance", true, func(s *Summary) int { return oneIf(s.Counts.Registered == 0) }},
	{"canary", "canary", "canaries", false, func(s *Summary) int { return oneIf(s.Canary() != nil) }},
	{"drained", "instance drained", "instances drained", false, func(s *Summary) int { return s.Counts.Drained }},
	{"leaving", "instance leaving", "instances leaving", false, func(s *Summary) int { return s.Counts.Leaving }},
	{"malformed", "entry malformed", "entries malformed", true, func(s *Summary) int { return s.Counts.Malformed }},
	{"lanes", "service with lanes", "services with lanes", false, func(s *Summary) int { return oneIf(len(s.Lanes) > 0) }},
	{"led", "service with a leader", "services with a leader", false, func(s *Summary) int { return oneIf(s.Leader != "") }},
}

func oneIf(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// shownFact is a fact that holds somewhere, with the link that shows where, or shows all again.
type shownFact struct {
	Text, Link string
	On, Bad    bool
}

// newOverview finds the services that a query matches, those that somebody is to look at first.
func newOverview(f frame, form url.Values) *overviewPage {
	p := &overviewPage{frame: f, Query: form.Get("q"), Show: form.Get("show")}
	p.Follows = true
	counts := make([]int, len(facts))
	words := strings.Fields(strings.ToLower(p.Query))
	for n := range f.Fleet.Services {
		s := &f.Fleet.Services[n]
		if !s.matches(words) {
			continue
		}
		shown := p.Show == ""
		for n, fact := range facts {
			count := fact.count(s)
			counts[n] += count
			shown = shown || count > 0 && fact.name == p.Show
		}
		if !shown {
			continue
		}
		row := overviewRow{Summary: s}
		if named(s.Key) {
			row.Link = at("/service", "key", s.Key)
		}
		p.Rows = append(p.Rows, row)
		p.Instances += s.Counts.Total()
	}
	p.setFacts(counts)
	slices.SortStableFunc(p.Rows, func(a, b overviewRow) int { return b.urgency() - a.urgency() })
	p.Found = len(p.Rows)
	p.Pager = newPager(p.Found, overviewRows, number(form.Get("page")), func(page string) string { return at("/", "q", p.Query, "show", p.Show, "page", page) })
	p.Rows = p.Rows[p.Pager.from:p.Pager.to]
	return p
}

func (p *overviewPage) setFacts(counts []int) {
	for n, fact := range facts {
		on := fact.name == p.Show
		if counts[n] == 0 && !on {
			continue
		}
		words, show := fact.many, fact.name
		if counts[n] == 1 {
			words = fact.one
		}
		if on {
			show = ""
		}
		p.Facts = append(p.Facts, shownFact{fmt.Sprint(counts[n], " ", words), at("/", "q", p.Query, "show", show), on, fact.bad})
	}
}

// matches reports whether each word, in lower case, is in the key or in what else is known of the service.
func (s *Summary) matches(words []string) bool {
	return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(s.Text, word) && !contains(word, s.Key) })
}

// contains reports whether one of the texts has a word, which is in lower case.
func contains(word string, texts ...string) bool {
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(strings.ToLower(text), word) })
}

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
