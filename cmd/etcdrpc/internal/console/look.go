package console

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/policyedit"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// line is a service in the overview.
type line struct {
	Key, Leader, Config    string
	Counts                 map[inventory.State]int
	Versions, Zones, Kinds []string

	// the severity of the worst finding; "" without findings
	Severity doctor.Severity

	findings []doctor.Finding // the worst first
	text     string           // text that searches match
}

// Linked reports whether the URL of the service's page fits in a request.
func (l line) Linked() bool {
	return len(l.Key) <= maxLong
}

// linesOf returns the lines of all services, in their order.
func (c *Console) linesOf(n *store.Snapshot) []line {
	all := make([]line, len(n.Services))
	for at, s := range n.Services {
		one := *n
		one.Services = n.Services[at : at+1]
		report := doctor.Glance(&one, c.store.Full, c.store.Endpoints)
		all[at] = newLine(s, report.Findings)
	}

	return all
}

func newLine(s *inventory.Service, findings []doctor.Finding) line {
	l := line{
		Key:      s.Key,
		Config:   s.ConfigState(),
		Counts:   make(map[inventory.State]int),
		findings: findings,
	}
	if len(s.Candidates) > 0 {
		l.Leader = s.Candidates[0].Instance
	}

	texts := []string{strings.ToLower(s.Key)}
	for _, i := range inventory.Entries([]*inventory.Service{s}) {
		l.Counts[i.State]++
		l.Versions = append(l.Versions, i.Version)
		l.Zones = append(l.Zones, i.Zone)
		texts = append(texts, searched(i))
	}

	for _, f := range findings {
		l.Kinds = append(l.Kinds, f.Kind)
		l.Severity = cmp.Or(l.Severity, f.Severity)
	}

	isEmpty := func(text string) bool { return text == "" }
	for _, set := range []*[]string{&l.Versions, &l.Zones, &l.Kinds} {
		slices.SortFunc(*set, inventory.CompareNames)
		*set = slices.DeleteFunc(slices.Compact(*set), isEmpty)
	}

	l.text = strings.Join(append(texts, strings.Join(l.Kinds, " "), l.Config), "\n")

	return l
}

// searched returns the text of an instance for searches, in lower case.
func searched(i *inventory.Instance) string {
	fields := []string{i.Instance, i.Addr, i.Version, i.Zone, string(i.State)}
	text := strings.Join(fields, " ")
	for name, value := range i.Metadata {
		text += fmt.Sprintf(" %.96s=%.192s", name, value)
	}

	return strings.ToLower(text)
}

func (c *Console) overview(w http.ResponseWriter, r *http.Request) {
	k := c.now.Load()
	p := struct {
		frame
		Lines  []line
		Doctor string
	}{frame: c.frame("Services", k, r), Doctor: c.store.Etcdrpc("doctor")}

	p.Lines = slices.DeleteFunc(slices.Clone(k.lines()), func(l line) bool {
		return !p.finds(l.text)
	})
	slices.SortStableFunc(p.Lines, func(a, b line) int {
		return cmp.Compare(cmp.Or(a.Severity, doctor.Note),
			cmp.Or(b.Severity, doctor.Note))
	})

	p.Lines = cut(&p.frame, p.Lines)
	c.show(w, r, http.StatusOK, "overview", p)
}

// servicePage is the data of the page of a service.
type servicePage struct {
	frame
	*inventory.Service
	Findings []doctor.Finding
	Unfound  int // the number of omitted findings
	Rows     []inventory.Instance
	Text     []string // of the live config
	Revision int64    // of the live config; 0 if there is none
	Refused  string   // why clients reject the live config
	Undone   string   // the revision of the write that the reader has just submitted

	// the live config is still at revision Undone, or was removed
	Written bool

	Notes     []string
	Printable bool // a form can contain the key
	Editable  bool
	Versions  []version // the choices for a split
	Canary    version   // the newest version
}

// version is a version of a service's instances.
type version struct {
	Name string

	Count int // of the instances that clients know
	Share int // percentage of the calls, -1 if unknown
}

func (c *Console) service(w http.ResponseWriter, r *http.Request) {
	k := c.now.Load()
	status := http.StatusOK
	s := k.Find(cmp.Or(c.key, r.FormValue("key")))
	p := servicePage{
		frame:     c.frame(s.Key, k, r),
		Service:   s,
		Printable: printable.Text(s.Key) == s.Key,
	}

	p.Editable = !c.readOnly &&
		k.Denied == nil &&
		len(s.Instances) > 0 &&
		endpoint.CheckKey(s.Key) == nil

	p.Of = s.Key
	p.Revision = s.ConfigRevision()
	p.Undone = r.FormValue("written")
	p.Written = p.Undone == strconv.FormatInt(p.Revision, 10) ||
		p.Undone != "" && p.Revision == 0

	var l line
	for _, other := range k.lines() {
		if other.Key == s.Key {
			l = other
		}
	}

	// Without these two, the note is about refused live configs. This page
	// shows the reason itself.
	if k.Denied == nil && k.Within == "" {
		p.Note = ""
	}

	p.Findings = l.findings[:min(len(l.findings), maxRows)]
	p.Unfound = len(l.findings) - len(p.Findings)

	all := s.Instances
	if x, err := policyedit.Explain(s, policyedit.Caller{}); err == nil {
		all = x.Instances
		p.Notes = x.Notes
	} else if s.InUse() {
		p.Notes = []string{"Shares are not known: " + err.Error() + "."}
	}

	p.addVersions(all)
	all = slices.Concat(all, s.Malformed)
	all = slices.DeleteFunc(all, func(i inventory.Instance) bool {
		return !p.finds(searched(&i))
	})
	p.Rows = cut(&p.frame, all)

	if s.Config != nil {
		p.Text = output.Lines(liveconfig.Pretty(s.Config.Value))

		if _, err := s.Live(); err != nil {
			p.Refused = err.Error()
		}
	} else if !s.InUse() && k.trouble == "" {
		status = http.StatusNotFound
	}

	c.show(w, r, status, "service", p)
}

// addVersions adds the choices for a split, if there are several versions.
func (p *servicePage) addVersions(all []inventory.Instance) {
	counts := versionsOf(p.Service)

	shares := make(map[string]float64)
	for _, i := range all {
		if i.Share != nil {
			shares[i.Version] += i.Share.Percent
		}
	}

	for _, name := range slices.SortedFunc(maps.Keys(counts), inventory.CompareNames) {
		// a form would send another name
		if name == "" || len(counts) == 1 || printable.Short(name, maxCell) != name {
			continue
		}

		p.Canary = version{Name: name, Count: counts[name], Share: -1}
		if len(shares) > 0 {
			p.Canary.Share = int(math.Round(shares[name]))
		}

		p.Versions = append(p.Versions, p.Canary)
	}
}

// versionsOf counts the instances that clients know, by version.
func versionsOf(s *inventory.Service) map[string]int {
	counts := make(map[string]int)
	for _, i := range s.Merged().Instances {
		counts[i.Version]++
	}

	return counts
}
