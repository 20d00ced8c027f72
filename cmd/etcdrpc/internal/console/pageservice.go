package console

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

const (
	instanceRows = 200 // on one page
	recentRows   = 20
	filterLeases = 1000 // asked for at most because the filter names a state
)

// servicePage is one service.
type servicePage struct {
	frame
	Service    *Service
	Query      string
	found      []instanceRow // that match the query, or may once their leases are known
	Rows       []instanceRow // of these, on this page
	Pager      pager
	Undecided  int // leases that the query depends on besides those asked for
	LeaseError string
	Findings   Findings
	Elsewhere  []Finding // what is not beside an instance that is shown
	Beside     int       // how many are
	Recent     []Change
	Outcome    *outcome
}

// absentPage is a key with nothing at it.
type absentPage struct {
	frame
	Key     string
	Outcome *outcome
}

func newAbsentPage(f frame, key string, form url.Values) *absentPage {
	return &absentPage{frame: f, Key: key, Outcome: newOutcome(form, f.Fleet.Revision, 0)}
}

// outcome is what has become of the edit that led to a page.
type outcome struct {
	Text   string
	Stands bool // nobody has changed the live config since, as far as it is seen
}

// newOutcome reads from a page's address at which revision the live config was written; nil: it was not. etcd is seen up
// to a revision, where the live config is that of the revision now, 0: there is none.
func newOutcome(form url.Values, seen, now int64) *outcome {
	if !form.Has("written") {
		return nil
	}
	written := int64(number(form.Get("written")))
	switch {
	case seen < written || now == written && now > 0:
		return &outcome{Text: fmt.Sprintf("Written at revision %d.", written), Stands: true}
	case now == 0:
		return &outcome{Text: "The live config is removed."}
	}
	return &outcome{Text: fmt.Sprintf("Written at revision %d, and changed again since, at revision %d.", written, now)}
}

// instanceRow is one instance with what is known of its lease and what is wrong with it.
type instanceRow struct {
	Instance
	Action string // "drain", "undrain" or ""
	Known  bool   // the lease's time is
	Left   survey.LeaseTime
	Wrong  []Finding
}

func newServicePage(f frame, s *Service, form url.Values) *servicePage {
	p := &servicePage{frame: f, Service: s, Query: form.Get("q")}
	for _, i := range s.Instances {
		if i.matches(p.Query, i.State) || i.mayExpire() && i.matches(p.Query, Expiring) {
			p.found = append(p.found, instanceRow{Instance: i, Action: i.action(f.ReadOnly || !s.Editable || !named(i.ID))})
		}
	}
	p.Recent = s.Recent[:min(recentRows, len(s.Recent))]
	p.Outcome = newOutcome(form, f.Fleet.Revision, s.Config.Revision)
	return p
}

// Scale returns where the sliders of the split end: at the sum of its weights, which is all of the calls.
func (p *servicePage) Scale() uint64 {
	sum := uint64(0)
	for _, s := range p.Service.Config.Splits {
		sum += uint64(s.Weight)
	}
	return max(sum, 100)
}

// action returns what can be done to an instance.
func (i *Instance) action(fixed bool) string {
	switch {
	case fixed || i.State != survey.Registered && i.State != survey.Drained:
		return ""
	case i.Listed:
		return string(EditUndrain)
	}
	return string(EditDrain)
}

// matches reports whether each word of a query is in what an instance says of itself, or its state.
func (i *Instance) matches(query string, state survey.State) bool {
	for _, word := range strings.Fields(strings.ToLower(query)) {
		if !contains(word, i.ID, i.Addr, i.Version, i.Zone, string(state)) {
			return false
		}
	}
	return true
}

// mayExpire reports whether it depends on its lease which state an instance is in.
func (i *Instance) mayExpire() bool { return i.State == survey.Registered && i.Lease != 0 }

// undecided returns the leases that the query depends on, which are none unless it names a state.
func (p *servicePage) undecided() []int64 {
	ids := leasesOf(p.found, func(row *instanceRow) bool {
		return row.mayExpire() && row.matches(p.Query, survey.Registered) != row.matches(p.Query, Expiring)
	})
	asked := min(len(ids), filterLeases)
	p.Undecided = len(ids) - asked
	return ids[:asked]
}

// choose takes the rows of a page from those that match the query as they are now.
func (p *servicePage) choose(page int) {
	p.found = slices.DeleteFunc(p.found, func(row instanceRow) bool { return !row.matches(p.Query, row.State) })
	p.Pager = newPager(len(p.found), instanceRows, page, func(page string) string {
		return at("/service", "key", p.Service.Key, "q", p.Query, "page", page)
	})
	p.Rows = p.found[p.Pager.from:p.Pager.to]
}

// leaseIDs returns the leases of the rows that are not known yet.
func (p *servicePage) leaseIDs() []int64 {
	return leasesOf(p.Rows, func(row *instanceRow) bool { return row.Lease != 0 && !row.Known })
}

// leasesOf returns the leases of some rows, each once.
func leasesOf(rows []instanceRow, wanted func(*instanceRow) bool) []int64 {
	var ids []int64
	for n := range rows {
		if wanted(&rows[n]) {
			ids = append(ids, rows[n].Lease)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// takeLeases fills in the time left. An entry that would be registered is expiring where little is left.
func (p *servicePage) takeLeases(leases map[int64]survey.LeaseTime) {
	for n := range p.found {
		row := &p.found[n]
		left, ok := leases[row.Lease]
		if !ok || row.Lease == 0 {
			continue
		}
		row.Known, row.Left = true, left
		if row.State == survey.Registered && left.RunsOut() {
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
