package doctor

import (
	"cmp"
	"io"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// Report is what doctor found.
type Report struct {
	Services  int       `json:"services"`  // that were looked at
	Instances int       `json:"instances"` // well-formed or not
	Findings  []Finding `json:"findings"`
	Notes     []Finding `json:"notes,omitempty"` // what is no fault
	Part      string    `json:"part,omitempty"`  // what alone the user may read, in words

	unasked string // what was not looked at, in words; "": nothing
}

// unasked says what doctor has not looked at, and how to have it do so.
func (p *patient) unasked(d *Options) string {
	switch {
	case d.deep.on:
		return ""
	case p.probed:
		return " What they serve was not asked: --deep does."
	}
	return " Whether they can be reached was not tried."
}

func (p *patient) report(d *Options) *Report {
	r := &Report{Findings: []Finding{}, Part: p.part, unasked: p.unasked(d)}
	for _, s := range p.examined() {
		r.Services++
		r.Instances += len(s.Instances) + len(s.Faulty())
	}
	all := slices.Concat(p.findings, p.check(d))
	for _, k := range Kinds {
		for n := range all {
			if all[n].Kind == k.Kind {
				all[n].Severity = cmp.Or(all[n].Severity, k.severity)
			}
		}
	}
	for _, severity := range []Severity{Error, Warning, Note} {
		for _, f := range all {
			switch {
			case f.Severity != severity || d.skips(f.Kind):
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

func (r *Report) print(out io.Writer) {
	for _, f := range slices.Concat(r.Findings, r.Notes) {
		f.Show(out)
	}
	if r.Part != "" {
		output.Sayf(out, "%s\n", r.Part)
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
	if f.Severity != "" {
		output.Sayf(out, "%s ", f.Severity)
	}
	output.Sayf(out, "%s: %s\n", f.Kind, f.Problem)
	for _, key := range f.Where {
		output.Sayf(out, "  at  %s\n", key)
	}
	output.Sayf(out, "  do  %s\n\n", f.Fix)
}
