package doctor

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// The kinds of findings that this package refers to outside of checks.
const (
	kindPermission   = "permission"
	kindNoSpace      = "no-space"
	kindCorrupt      = "corrupt"
	kindEmpty        = "empty"
	kindUnreachable  = "unreachable"
	kindOpenFiles    = "open-files"
	kindLocalAddress = "local-address"
	kindNotServing   = "not-serving"
	kindCertificate  = "certificate"
)

// Severity is the severity of a finding.
type Severity string

// The severities, the worst first.
const (
	Error   Severity = "error"   // calls fail, or go to other instances than configured
	Warning Severity = "warning" // calls work now, but may fail after another event
	Note    Severity = "note"    // information, which does not affect the exit code
)

// Severities are the severities that --fail-on takes.
var Severities = []string{string(Error), string(Warning)}

// check is a kind of finding and the function that finds it in a service. The
// function does no I/O, and adds only findings of this kind, with a remedy. The
// tests of cmd/etcdrpc cause each kind.
type check struct {
	kind        string
	severity    Severity
	description string
	find        func(x *subject) // nil if doctor reports the kind while it reads etcd
}

// checks are all checks of doctor, in the order of its help.
var checks = []check{
	{kindPermission, Error, "etcd denies the user a permission that doctor needs", nil},
	{kindEmpty, Error, "nothing that can be called is registered", (*subject).empty},
	{kindCorrupt, Error,
		"an etcd that refuses writes, because the data of its members differ", nil},
	{kindNoSpace, Warning,
		"an etcd that refuses writes, because its database is full", nil},
	{"malformed", Error, "an entry that no client can read", (*subject).malformed},
	{"no-lease", Warning,
		"an entry that stays when its server dies, for a day or for ever",
		(*subject).noLease},
	{"expiring", Warning,
		"a lease that is not renewed any more, or a live config on a lease",
		(*subject).expiring},
	{"leaving", Warning, "an entry that is marked as being withdrawn, and stays",
		(*subject).keptLeaving},
	{kindUnreachable, Error, "an address that accepts no connection",
		(*subject).unreachableAddress},
	{kindOpenFiles, Error, "too few open files to connect to the instances", nil},
	{kindLocalAddress, Error, "an address that means another host to each caller",
		(*subject).misleadingAddress},
	{"duplicate-address", Error, "several instances with one address",
		(*subject).duplicates},
	{"mixed-layouts", Warning, "a service written in several layouts",
		(*subject).mixedLayouts},
	{"disjoint-methods", Warning, "servers of one key that serve no method in common",
		(*subject).disjointMethods},
	{"bad-key", Error, "a service key that clients refuse, or that is likely mistaken",
		(*subject).badKey},
	{"bad-config", Error, "a live config that clients refuse", (*subject).refusedConfig},
	{"unlinked-policy", Warning,
		"a live config that needs a package that clients do not link by default",
		(*subject).unlinkedPolicy},
	{"no-match", Warning,
		"a split, drain, route or zone of a live config that does not fit the instances",
		(*subject).misfits},
	{"drain", Warning, "an old drain that applies to an instance registered since",
		(*subject).drainedSince},
	{"unserved-method", Warning,
		"a live config that names a service or method that no instance serves",
		(*subject).unserved},
	{"orphan-config", Warning, "a live config for a service without instances",
		(*subject).orphanConfig},
	{"lane", Error,
		"lanes without routes in the live config, or a strict one that is drained",
		(*subject).lanes},
	{"leader", Error, "a leader that no caller can reach", (*subject).leader},
	{"metadata", Warning, "metadata of an instance that callers cannot read",
		(*subject).metadata},
	{"zone", Warning, "a zone that is spelled almost as another",
		(*subject).mistypedZones},
	{kindNotServing, Error,
		"a server whose health check says that it is not serving, fails, or hangs (--deep)",
		ofHealth("look at its server's log, and at the address that it advertises (GRPC_ADVERTISE_ADDR)")},
	{kindCertificate, Error,
		"a server certificate that clients refuse, or that ends soon (--deep)",
		ofHealth("renew or replace it, or say what clients trust and expect: --service-cacert FILE, --service-authority KEY=NAME")},
	{"transport", Error,
		"servers that speak plaintext, TLS or mutual TLS beside others of their service that do not (--deep)",
		(*subject).otherTransport},
	{"health-unknown", Note,
		"a health service that does not know a service of its server, as clients with health_check require (--deep)",
		(*subject).unknownHealth},
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

// Finding is a fault, or a note.
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

// add adds a finding at keys, which lack the namespace. If there is a finding
// of the same kind and cause, add adds only the keys to that finding.
func (p *examination) add(
	cause, kind string,
	severity Severity,
	problem, fix string,
	keys ...string,
) {
	at, known := p.causes[kind+cause]
	if !known {
		at = len(p.findings)
		p.causes[kind+cause] = at

		p.findings = append(p.findings, Finding{
			Kind:     kind,
			Severity: severity,
			Where:    []string{},
			Problem:  problem,
			Fix:      fix,
		})
	}

	for _, key := range keys {
		p.findings[at].Where = append(p.findings[at].Where, p.full(key))
	}
}

// report adds a finding of the check that runs, with the check's severity.
// Reports with the same text become one finding.
func (x *subject) report(problem, fix string, keys ...string) {
	x.reportAs(x.check.severity, problem, fix, keys...)
}

// reportAs is like report, but with the given severity.
func (x *subject) reportAs(severity Severity, problem, fix string, keys ...string) {
	x.add(problem+fix, x.check.kind, severity, problem, fix, keys...)
}

// diagnose runs the checks, and returns a report that lists the worst findings
// first.
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

	slices.SortStableFunc(p.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Kind, b.Kind))
	})

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

// Fails reports whether a finding is at least as severe as --fail-on.
func (d *Options) Fails(r *Report) bool {
	return len(r.Findings) > 0 && (d.failOn == Warning || r.Findings[0].Severity == Error)
}

// Show writes the report.
func (r *Report) Show(out io.Writer, f output.Format) error {
	return output.Show(out, f, r, r.print)
}

// maxOfKind bounds the findings of one kind in the text.
const maxOfKind = 10

func (r *Report) print(out io.Writer) {
	counts := make(map[string]int)
	for _, f := range r.Findings {
		counts[f.Kind]++
	}

	summary := r.notChecked
	if len(counts) > 0 {
		summary = fmt.Sprintf(" By kind, at most %d of each below: %s.", maxOfKind,
			inventory.Counted(counts))
	}

	output.Sayf(out, "%s in %s with %s.%s\n",
		output.Counted(len(r.Findings), "finding"),
		output.Counted(r.Services, "service"),
		output.Counted(r.Instances, "instance"), summary)

	shown := make(map[string]int)
	for _, f := range slices.Concat(r.Findings, r.Notes) {
		shown[f.Kind]++
		if shown[f.Kind] > maxOfKind {
			continue
		}

		if at := output.SomeOf(f.Where); at != "" {
			f.Kind += " at " + at
		}

		output.Sayf(out, "%s %s: %s\n  do  %s\n", f.Severity, f.Kind, f.Problem, f.Fix)
	}
}
