package console

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	instanceRows = 200 // on one page
	recentRows   = 20
)

// servicePage is one service.
type servicePage struct {
	frame
	Service    *Service
	Query      string
	Rows       []instanceRow
	Pager      pager
	LeaseError string
	Findings   Findings
	Elsewhere  []Finding // what is not beside an instance that is shown
	Beside     int       // how many are
	Recent     []Change
	Written    string // the revision at which an edit of this operator was written
}

// instanceRow is one instance with what is known of its lease and what is wrong with it.
type instanceRow struct {
	Instance
	Action string // "drain", "undrain" or ""
	Known  bool   // the lease's time is
	Left   Lease
	Wrong  []Finding
}

func newServicePage(f frame, s *Service, form url.Values) *servicePage {
	p := &servicePage{frame: f, Service: s, Query: form.Get("q")}
	var found []instanceRow
	for _, i := range s.Instances {
		if i.matches(p.Query) {
			found = append(found, instanceRow{Instance: i, Action: i.action(f.ReadOnly || !s.Editable || !named(i.ID))})
		}
	}
	p.Pager = newPager(len(found), instanceRows, number(form.Get("page")), func(page string) string {
		return at("/service", "key", s.Key, "q", p.Query, "page", page)
	})
	p.Rows = found[p.Pager.from:p.Pager.to]
	p.Recent = s.Recent[:min(recentRows, len(s.Recent))]
	if n, err := strconv.ParseInt(form.Get("written"), 10, 64); err == nil && n > 0 {
		p.Written = strconv.FormatInt(n, 10)
	}
	return p
}

// action returns what can be done to an instance.
func (i *Instance) action(fixed bool) string {
	switch {
	case fixed || i.State != Registered && i.State != Drained:
		return ""
	case i.Listed:
		return string(EditUndrain)
	}
	return string(EditDrain)
}

// matches reports whether each word of a query is in what an instance says of itself.
func (i *Instance) matches(query string) bool {
	for _, word := range strings.Fields(strings.ToLower(query)) {
		if !contains(word, i.ID, i.Addr, i.Version, i.Zone, string(i.State)) {
			return false
		}
	}
	return true
}

// leaseIDs returns the leases of the rows, each once.
func (p *servicePage) leaseIDs() []int64 {
	var ids []int64
	for _, row := range p.Rows {
		if row.Lease != 0 {
			ids = append(ids, row.Lease)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// takeLeases fills in the time left. An entry that would be registered is expiring where little is left: clients of
// etcd renew a lease when a third of its time has passed.
func (p *servicePage) takeLeases(leases map[int64]Lease) {
	for n := range p.Rows {
		row := &p.Rows[n]
		left, ok := leases[row.Lease]
		if !ok || row.Lease == 0 {
			continue
		}
		row.Known, row.Left = true, left
		if row.State == Registered && left.Left*3 <= left.Granted {
			row.State = Expiring
		}
	}
}

// placeFindings puts what is about one entry alone beside it.
func (p *servicePage) placeFindings() {
	rows := make(map[string]int, len(p.Rows))
	for n := range p.Rows {
		rows[p.Rows[n].EtcdKey] = n
	}
	for _, f := range p.Findings.All {
		n, shown := 0, false
		if len(f.Where) == 1 {
			n, shown = rows[f.Where[0]]
		}
		if shown {
			p.Rows[n].Wrong = append(p.Rows[n].Wrong, f)
			p.Beside++
		} else {
			p.Elsewhere = append(p.Elsewhere, f)
		}
	}
}
