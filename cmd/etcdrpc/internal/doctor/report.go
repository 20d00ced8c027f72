package doctor

import (
	"cmp"
	"io"
	"maps"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// Finding is a fault that was found.
type Finding struct {
	Kind     Kind     `json:"kind"`
	Severity Severity `json:"severity"` // of Kind, unless the check sets it
	Where    []string `json:"where"`    // full keys in etcd
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

// report adds a finding. The finding's keys are keys, after the namespace.
func (p *examination) report(kind Kind, problem, fix string, keys ...string) {
	f := Finding{Kind: kind, Where: []string{}, Problem: problem, Fix: fix}
	for _, key := range keys {
		f.Where = append(f.Where, p.full(key))
	}
	p.findings = append(p.findings, f)
}

// reportOnce adds a finding or, if the group has one, a key to it. Severity "" is that of the kind.
func (p *examination) reportOnce(group string, kind Kind, severity Severity, problem, fix, key string) {
	at, ok := p.groups[group]
	if ok {
		p.findings[at].Where = append(p.findings[at].Where, p.full(key))
		return
	}
	p.groups[group] = len(p.findings)
	p.report(kind, problem, fix, key)
	p.findings[len(p.findings)-1].Severity = severity
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
	severities := make(map[Kind]Severity)
	for _, c := range checks {
		severities[c.kind] = c.severity
	}
	for n, f := range p.findings {
		p.findings[n].Severity = cmp.Or(f.Severity, severities[f.Kind])
	}
	slices.SortStableFunc(p.findings, func(a, b Finding) int { return cmp.Compare(a.Severity, b.Severity) })
	for _, f := range p.findings {
		switch {
		case p.skips(f.Kind):
		case f.Severity == Note:
			r.Notes = append(r.Notes, f)
		default:
			r.Findings = append(r.Findings, f)
		}
	}
	return r
}

// Blind reports whether etcd denied reading any service.
func (r *Report) Blind() bool {
	return r.Services == 0 && len(r.Findings) == 1 && r.Findings[0].Kind == KindPermission
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
	counts := make(map[Kind]int)
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
