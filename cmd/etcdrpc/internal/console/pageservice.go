package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/steer"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

const (
	instanceRows = 100 // on one page
	recentRows   = 20
	filterLeases = 1000 // asked for at most because the filter names a state
)

func (c *Console) service(r *http.Request) (*answer, error) {
	s := c.Backend.Service(r.Form.Get("key"))
	if s == nil {
		return c.absent(r)
	}
	p := newServicePage(c.frame(s.Key), s, r.Form)
	p.Findings = c.Backend.Findings(s.Key, false)
	p.Links = linksTo(c.Links, s.Key)
	c.askLeases(r.Context(), p, p.undecided())
	p.choose(number(r.Form.Get("page")))
	c.askLeases(r.Context(), p, p.leaseIDs())
	p.markFound()
	return &answer{template: "service", model: p}, nil
}

// askLeases puts on a page what is left of leases. Where etcd does not say that once, it is not asked again.
func (c *Console) askLeases(ctx context.Context, p *servicePage, ids []int64) {
	if len(ids) == 0 || p.LeaseError != "" {
		return
	}
	leases, err := c.Backend.Leases(ctx, ids)
	if err != nil {
		p.LeaseError = err.Error()
	}
	p.takeLeases(leases)
}

// absent shows that there is nothing at a key. It is no error where the operator has just removed what was there.
func (c *Console) absent(r *http.Request) (*answer, error) {
	key := r.Form.Get("key")
	f := c.frame(key)
	f.Follows, f.Instead = true, "Now nothing is registered here, and no live config is seen."
	p := &absentPage{frame: f, Key: key, Outcome: newOutcome(r.Form, f.Fleet.Revision, 0)}
	switch {
	case p.Fleet.Trouble != "":
		return nil, httpError{http.StatusServiceUnavailable, p.Fleet.Trouble}
	case p.Outcome == nil:
		return &answer{status: http.StatusNotFound, template: "absent", model: p}, nil
	}
	return &answer{template: "absent", model: p}, nil
}

// examine has the faults of a service looked for at once.
func (c *Console) examine(r *http.Request) (*answer, error) {
	key := r.Form.Get("key")
	if c.Backend.Service(key) != nil {
		c.Backend.Findings(key, true)
	}
	return &answer{location: at("/service", "key", key) + "#findings"}, nil
}

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
	Links      []Link
	Recent     []Change
	Outcome    *outcome
}

// Key is that of the service.
func (p *servicePage) Key() string { return p.Service.Key }

func (p *servicePage) tableRows() (all []keyed) {
	for n := range p.Rows {
		all = append(all, &p.Rows[n])
	}
	return all
}

func (r *instanceRow) rowKey() string { return r.EtcdKey }

type absentPage struct {
	frame
	Key     string
	Outcome *outcome
}

// outcome is what has become of the edit that led to a page.
type outcome struct {
	Text   string
	Stands bool  // nobody has changed the live config since, as far as it is seen
	Undo   bool  // it can be undone
	Now    int64 // the revision of the live config, 0: there is none
}

// newOutcome reads from a page's address at which revision the live config was written; nil: it was not. etcd is seen up
// to a revision, where the live config is that of the revision now, 0: there is none.
func newOutcome(form url.Values, seen, now int64) *outcome {
	if !form.Has("written") {
		return nil
	}
	written := int64(number(form.Get("written")))
	switch {
	case seen < written: // it has yet to come, or etcd has been restored from a backup of before
		return &outcome{Text: fmt.Sprintf("Written at revision %d, which is not seen here yet: this is revision %d of etcd.", written, seen), Undo: true, Now: written}
	case now == written && now > 0:
		return &outcome{Text: fmt.Sprintf("Written at revision %d.", written), Stands: true, Undo: true, Now: written}
	case now == 0:
		return &outcome{Text: "The live config is removed.", Undo: true}
	}
	return &outcome{Text: fmt.Sprintf("Written at revision %d, and changed again since, at revision %d.", written, now)}
}

// instanceRow is one instance with what is known of its lease and what is wrong with it.
type instanceRow struct {
	Instance
	Action string // "drain", "undrain" or ""
	Known  bool   // the lease's time is
	Left   survey.LeaseTime
	Found  []string // the kinds of what is wrong with it
	// Of the service:
	Service  string
	Revision int64 // of the live config
}

func newServicePage(f frame, s *Service, form url.Values) *servicePage {
	f.Follows = true
	p := &servicePage{frame: f, Service: s, Query: form.Get("q")}
	for _, i := range s.Instances {
		if i.matches(p.Query, i.State) || i.mayExpire() && i.matches(p.Query, Expiring) {
			action := i.action(f.ReadOnly || !s.Editable || !named(i.ID))
			p.found = append(p.found, instanceRow{Instance: i, Action: action, Service: s.Key, Revision: s.Config.Revision})
		}
	}
	p.Recent = s.Recent[:min(recentRows, len(s.Recent))]
	p.Outcome = newOutcome(form, f.Fleet.Revision, s.Config.Revision)
	return p
}

// action returns what can be done to an instance.
func (i *Instance) action(fixed bool) string {
	switch {
	case fixed || i.State != survey.Registered && i.State != survey.Drained:
		return ""
	case i.Listed:
		return string(steer.Undrain)
	}
	return string(steer.Drain)
}

// matches reports whether each word of a query is in what an instance says of itself, or its state.
func (i *Instance) matches(query string, state survey.State) bool {
	for _, word := range strings.Fields(strings.ToLower(query)) {
		if !contains(word, i.ID, i.Addr, i.Version, i.Zone, string(state)) && !contains(word, i.Lanes...) && !i.says(word) {
			return false
		}
	}
	return true
}

// says reports whether a word is in the metadata, or means the leader.
func (i *Instance) says(word string) bool {
	return i.Leads && word == "leader" || slices.ContainsFunc(i.Metadata, func(pair [2]string) bool { return contains(word, pair[0]+"="+pair[1]) })
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

// markFound says beside an instance what is found of its entry. Findings are above, by their names.
func (p *servicePage) markFound() {
	rows := make(map[string]*instanceRow, len(p.Rows))
	for n := range p.Rows {
		rows[p.Rows[n].EtcdKey] = &p.Rows[n]
	}
	for _, f := range p.Findings.All {
		for _, key := range f.Where {
			if row := rows[key]; row != nil && !slices.Contains(row.Found, string(f.Kind)) {
				row.Found = append(row.Found, string(f.Kind))
			}
		}
	}
}
