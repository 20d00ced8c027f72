package console

import "strconv"

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
