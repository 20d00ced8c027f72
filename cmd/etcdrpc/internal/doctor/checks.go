package doctor

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// The kinds of faults that this package refers to outside of checks.
const (
	kindPermission   = "permission"
	kindNoSpace      = "no-space"
	kindCorrupt      = "corrupt"
	kindEmpty        = "empty"
	kindUnreachable  = "unreachable"
	kindOpenFiles    = "open-files"
	kindLocalAddress = "local-address"
	kindDrain        = "drain"
	kindNotServing   = "not-serving"
	kindCertificate  = "certificate"
)

// Severity is the severity of a fault.
type Severity string

// The severities, the worst first.
const (
	Error   Severity = "error"   // calls fail, or go to other instances than configured
	Warning Severity = "warning" // calls work now, but may fail after another event
	Note    Severity = "note"    // information, not a fault
)

// Severities are the severities of faults.
var Severities = []string{string(Error), string(Warning)}

// check is a kind of fault and the functions that find it in a service. Each function does no I/O, and reports only faults of
// this kind, with a remedy. The tests of cmd/etcdrpc cause each kind.
type check struct {
	kind        string
	severity    Severity
	description string
	find        []func(x *subject) // empty if the fault is found while etcd is read
}

type finders = []func(x *subject)

// checks are all checks of doctor, in the order of its help.
var checks = []check{
	{kindPermission, Error, "etcd denies the user a permission that doctor needs", nil},
	{kindEmpty, Error, "nothing that can be called is registered", finders{(*subject).empty}},
	{kindCorrupt, Error, "an etcd that refuses writes, because the data of its members differ", nil},
	{kindNoSpace, Warning, "an etcd that refuses writes, because its database is full", nil},
	{"malformed", Error, "an entry that no client can read", finders{(*subject).malformed}},
	{"no-lease", Warning, "an entry that stays when its server dies, for a day or for ever", finders{(*subject).noLease}},
	{"expiring", Warning, "a lease that is not renewed any more, or a live policy on a lease", finders{(*subject).expiringLease, (*subject).leasedPolicy}},
	{"leaving", Warning, "an entry that is marked as being withdrawn, and stays", finders{(*subject).keptLeaving}},
	{kindUnreachable, Error, "an address that accepts no connection", finders{(*subject).unreachableAddress}},
	{kindOpenFiles, Error, "too few open files to connect to the instances", nil},
	{kindLocalAddress, Error, "an address that means another host to each caller", finders{(*subject).misleadingAddress}},
	{"duplicate-address", Error, "several instances with one address", finders{(*subject).duplicates}},
	{"mixed-layouts", Warning, "a service written in several layouts", finders{(*subject).mixedLayouts}},
	{"bad-key", Error, "a service key that clients refuse, or that is likely mistaken", finders{(*subject).badKey}},
	{"bad-policy", Error, "a live policy that clients refuse", finders{(*subject).refusedPolicy}},
	{"unlinked-policy", Warning, "a live policy that needs a package that clients do not link by default", finders{(*subject).unlinkedPolicy}},
	{"no-match", Warning, "a split, drain, route or zone of a live policy that does not fit the instances",
		finders{(*subject).misfits, (*subject).outsideGroups, (*subject).missingZones}},
	{kindDrain, Warning, "an old drain that applies to an instance registered since", finders{(*subject).drainedSince}},
	{"unserved-method", Warning, "a live policy that configures a service or method that no instance serves", finders{(*subject).unserved}},
	{"orphan-policy", Warning, "a live policy for a service without instances", finders{(*subject).orphanPolicy}},
	{"lane", Error, "lanes without routes in the live policy, or a strict one that is drained", finders{(*subject).missingRoutes, (*subject).drainedLanes}},
	{"leader", Error, "a leader that no caller can reach", finders{(*subject).leader}},
	{"metadata", Warning, "metadata of an instance that callers cannot read", finders{(*subject).metadata}},
	{"zone", Warning, "a zone that is spelled almost as another", finders{(*subject).mistypedZones}},
	{kindNotServing, Error, "a server whose health check says that it is not serving, fails, or hangs (--deep)",
		ofHealth("look at its server's log, and at the address that it advertises (GRPC_ADVERTISE_ADDR)")},
	{kindCertificate, Error, "a server certificate that clients refuse, or that ends soon (--deep)",
		ofHealth("renew or replace it, or say what clients trust and expect: --service-cacert FILE, --service-authority KEY=NAME")},
	{"transport", Error, "servers that speak plaintext, TLS or mutual TLS beside others of their service that do not (--deep)", finders{(*subject).otherTransport}},
	{"health-unknown", Note, "a health service that does not know a service of its server, as clients with health_check require (--deep)", finders{(*subject).unknownHealth}},
}

// KindNames returns the names of all kinds.
func KindNames() (names []string) {
	for _, c := range checks {
		names = append(names, c.kind)
	}
	return names
}

// KindsHelp returns the help text: a line for each kind.
func KindsHelp() string {
	var help strings.Builder
	for _, c := range checks {
		fmt.Fprintf(&help, "  %-7s  %-18s %s\n", c.severity, c.kind, c.description)
	}
	return help.String()
}

// Finding is a fault that was found.
type Finding struct {
	Kind     string   `json:"kind"`
	Severity Severity `json:"severity"`
	Where    []string `json:"where"` // full keys in etcd
	Problem  string   `json:"problem"`
	Fix      string   `json:"fix"`
}

// Report is the result of doctor.
type Report struct {
	Services  int       `json:"services"`  // number examined
	Instances int       `json:"instances"` // well-formed or malformed
	Findings  []Finding `json:"findings"`
	Notes     []Finding `json:"notes,omitempty"` // findings of severity Note

	notChecked string // names skipped checks in the text output; may be ""
}

// add adds a finding at keys, which lack the namespace.
func (p *examination) add(kind string, severity Severity, problem, fix string, keys ...string) {
	f := Finding{Kind: kind, Severity: severity, Where: []string{}, Problem: problem, Fix: fix}
	for _, key := range keys {
		f.Where = append(f.Where, p.full(key))
	}
	p.findings = append(p.findings, f)
}

// report adds a finding of the check that runs, with its severity.
func (x *subject) report(problem, fix string, keys ...string) {
	x.add(x.check.kind, x.check.severity, problem, fix, keys...)
}

// reportGrouped adds a finding of the check that runs or, if one has the same group, a key to it. Severity "" is the check's.
func (x *subject) reportGrouped(group string, severity Severity, problem, fix, key string) {
	id := [2]string{x.check.kind, group}
	if at, ok := x.groups[id]; ok {
		x.findings[at].Where = append(x.findings[at].Where, x.full(key))
		return
	}
	x.groups[id] = len(x.findings)
	x.add(x.check.kind, cmp.Or(severity, x.check.severity), problem, fix, key)
}

// diagnose runs the checks, and returns a report that lists the worst findings first.
func (p *examination) diagnose() *Report {
	p.check()
	r := &Report{Findings: []Finding{}}
	if !p.deep {
		r.notChecked = " Their health was not checked: --deep checks it."
	}
	for _, s := range p.services {
		r.Services++
		r.Instances += len(s.Instances) + len(s.Malformed)
	}
	slices.SortStableFunc(p.findings, func(a, b Finding) int { return cmp.Compare(a.Severity, b.Severity) })
	for _, f := range p.findings {
		switch {
		case slices.Contains(p.skip, f.Kind):
		case f.Severity == Note:
			r.Notes = append(r.Notes, f)
		default:
			r.Findings = append(r.Findings, f)
		}
	}
	return r
}

// Fails reports whether a fault is at least as severe as --fail-on.
func (d *Options) Fails(r *Report) bool {
	return len(r.Findings) > 0 && (d.failOn == Warning || r.Findings[0].Severity == Error)
}

// Show writes the report.
func (r *Report) Show(out io.Writer, f output.Format) error {
	return output.Show(out, f, r, r.print)
}

// Bounds of the text: findings of one kind, and keys of one finding.
const (
	maxOfKind = 10
	maxWhere  = 4
)

func (r *Report) print(out io.Writer) {
	counts := make(map[string]int)
	for _, f := range slices.Concat(r.Findings, r.Notes) {
		if counts[f.Kind]++; counts[f.Kind] <= maxOfKind {
			f.Show(out)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		if more := counts[kind] - maxOfKind; more > 0 {
			output.Sayf(out, "There are %d more faults of the kind %s: -o json lists all.\n\n", more, kind)
		}
	}
	looked := output.Counted(r.Services, "service") + " with " + output.Counted(r.Instances, "instance")
	if len(r.Findings) == 0 {
		output.Sayf(out, "Found no faults in %s.%s\n", looked, r.notChecked)
		return
	}
	output.Sayf(out, "Found %s in %s.\n", output.Counted(len(r.Findings), "fault"), looked)
}

// Show prints the finding as text.
func (f Finding) Show(out io.Writer) {
	output.Sayf(out, "%s %s: %s\n", f.Severity, f.Kind, f.Problem)
	shown := f.Where[:min(len(f.Where), maxWhere)]
	for _, key := range shown {
		output.Sayf(out, "  at  %s\n", cmp.Or(key, `""`))
	}
	if more := len(f.Where) - len(shown); more > 0 {
		output.Sayf(out, "  at  %d more keys: -o json lists all\n", more)
	}
	output.Sayf(out, "  do  %s\n\n", f.Fix)
}
