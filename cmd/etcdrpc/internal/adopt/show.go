package adopt

import (
	"io"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// ProposalJSON is the JSON of a proposal.
type ProposalJSON struct {
	Key      string           `json:"key"`
	Layout   string           `json:"layout"` // "" for none
	Option   string           `json:"option"` // "" for none
	Entries  int              `json:"entries"`
	Read     int              `json:"read"`
	Layouts  map[string]int   `json:"layouts"`
	Findings []doctor.Finding `json:"findings"`
}

func (v *Adoption) json() []ProposalJSON {
	all := make([]ProposalJSON, len(v.Proposals))
	for n, p := range v.Proposals {
		all[n] = ProposalJSON{p.Key, p.homeMade.Name(p.Layout), p.Option(), len(p.Entries), p.Read(), p.layouts(), append([]doctor.Finding{}, p.Findings...)}
	}
	return all
}

// Show writes what there is to adopt.
func (v *Adoption) Show(out io.Writer, f output.Format) error {
	return output.Show(out, f, v.json(), v.print)
}

func (v *Adoption) print(out io.Writer) {
	for _, p := range v.Proposals {
		p.print(out)
	}
	if len(v.Others) > 0 {
		entries, keys := 0, make([]string, len(v.Others))
		for n, p := range v.Others {
			entries += len(p.Entries)
			keys[n] = p.Key
		}
		output.Sayf(out, "%s below other keys, which do not look like services: %s.\n", output.EntriesAre(entries), output.Quoted(keys))
	}
}

// MaxUnread bounds how many entries that no client would read are listed.
const MaxUnread = 20

func (p *Proposal) print(out io.Writer) {
	name := "no layout reads an entry"
	if !p.Layout.IsZero() {
		name = p.homeMade.Name(p.Layout)
	}
	output.Sayf(out, "%s: %s; clients read %d of %s\n\n", p.Key, name, p.Read(), output.Counted(len(p.Entries), "entry"))
	if option := p.Option(); option != "" {
		output.SayLines(out, "  "+strings.ReplaceAll(strings.TrimSuffix(option, "\n"), "\n", "\n  "))
		output.Sayf(out, "\n")
	}
	unread := 0
	for _, f := range p.Findings {
		if f.Kind == kindUnread {
			if unread++; unread > MaxUnread {
				continue
			}
		}
		f.Show(out)
	}
	if more := unread - MaxUnread; more > 0 {
		output.Sayf(out, "There are others that clients would not read (%d): -o json lists all of them.\n\n", more)
	}
}
