package doctor

import (
	"io"
	"maps"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// Finding is one thing that is wrong.
type Finding struct {
	Kind     Kind     `json:"kind"`
	Severity Severity `json:"severity"` // of the kind
	Where    []string `json:"where"`    // keys of etcd, in full
	Problem  string   `json:"problem"`
	Fix      string   `json:"fix"`
}

// Report is what doctor found.
type Report struct {
	Services  int       `json:"services"`  // that were looked at
	Instances int       `json:"instances"` // well-formed or not
	Findings  []Finding `json:"findings"`
	Notes     []Finding `json:"notes,omitempty"` // what is no fault

	unasked string // what was not looked at, in words; "": nothing
}

// report tells of what is wrong with some keys, which are without the namespace.
func (p *patient) report(kind Kind, problem, fix string, keys ...string) {
	f := Finding{Kind: kind, Where: []string{}, Problem: problem, Fix: fix}
	for _, key := range keys {
		f.Where = append(f.Where, p.full(key))
	}
	p.findings = append(p.findings, f)
}

// diagnose looks for faults, and returns what was found, the worst first.
func (p *patient) diagnose() *Report {
	p.check()
	r := &Report{Findings: []Finding{}}
	switch {
	case p.deep:
	case p.probed:
		r.unasked = " What they serve was not asked: --deep does."
	default:
		r.unasked = " Whether they can be reached was not tried."
	}
	for _, s := range p.services {
		r.Services++
		r.Instances += len(s.Instances) + len(s.Malformed)
	}
	severities := make(map[Kind]Severity)
	for _, c := range checks {
		severities[c.kind] = c.severity
	}
	for _, severity := range []Severity{Error, Warning, Note} {
		for _, f := range p.findings {
			switch f.Severity = severities[f.Kind]; {
			case f.Severity != severity || p.skips(f.Kind):
			case severity == Note:
				r.Notes = append(r.Notes, f)
			default:
				r.Findings = append(r.Findings, f)
			}
		}
	}
	return r
}

// Blind reports whether etcd denied all that was to be looked at.
func (r *Report) Blind() bool {
	return r.Services == 0 && slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Kind == KindPermission })
}

// Show writes the report.
func (r *Report) Show(out io.Writer, f output.Format) error {
	return output.Show(out, f, r, r.print)
}

// maxOfKind bounds the findings of one kind that are written for people.
const maxOfKind = 10

func (r *Report) print(out io.Writer) {
	counts := make(map[Kind]int)
	for _, f := range slices.Concat(r.Findings, r.Notes) {
		if counts[f.Kind]++; counts[f.Kind] <= maxOfKind {
			f.Show(out)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		if more := counts[kind] - maxOfKind; more > 0 {
			output.Sayf(out, "There are %d more of the kind %s: -o json lists all.\n\n", more, kind)
		}
	}
	looked := output.Counted(r.Services, "service") + ", " + output.Counted(r.Instances, "instance")
	if len(r.Findings) == 0 {
		output.Sayf(out, "Nothing is wrong with %s.%s\n", looked, r.unasked)
		return
	}
	output.Sayf(out, "%s wrong with %s.\n", output.CountedIs(len(r.Findings), "thing", "is", "are"), looked)
}

// Show writes the finding for people.
func (f Finding) Show(out io.Writer) {
	output.Sayf(out, "%s %s: %s\n", f.Severity, f.Kind, f.Problem)
	for _, key := range f.Where {
		output.Sayf(out, "  at  %s\n", key)
	}
	output.Sayf(out, "  do  %s\n\n", f.Fix)
}
