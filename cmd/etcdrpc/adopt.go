package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

func newAdopt(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "adopt PREFIX",
		Short: "Propose the proto options of services that are in etcd already",
		Long: `adopt looks at what other programs keep in etcd below PREFIX, which is the key of a
service or the beginning of several. For each service it names the layout, prints
the option to paste into the proto, with a json_layout if the entries are
home-made JSON, and says what would be lost or change. It writes nothing to etcd.
It exits with 1 if there is a service of which clients would read nothing, be it
for the entries or for the key.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store, args []string) error {
			entries, parts, err := s.scanReadable(ctx, prefixRange(args[0]))
			if err != nil {
				return err
			}
			if parts != nil {
				sayf(cmd.ErrOrStderr(), "%s\n", partOnly(s.user, parts))
			}
			v, err := adopt(args[0], entries, s.full)
			if err != nil {
				return err
			}
			return v.show(cmd.OutOrStdout(), a.output)
		}),
	}
}

// adoption holds the proposals for the services below a prefix.
type adoption struct {
	proposals []*proposal
	others    []*proposal // for what does not look like a service
}

// adopt looks at the entries below a prefix.
func adopt(prefix string, entries []entry, full func(string) string) (*adoption, error) {
	groups, elsewhere := groupEntries(prefix, entries)
	if len(groups) == 0 {
		return nil, errNothing(prefix, elsewhere, full)
	}
	v := &adoption{}
	var unlikely []*proposal
	for _, key := range sortedKeys(groups) {
		p := propose(key, groups[key], full)
		if p.likely() {
			v.proposals = append(v.proposals, p)
			continue
		}
		unlikely = append(unlikely, p)
	}
	if len(v.proposals) == 0 { // then PREFIX means these
		v.proposals, unlikely = unlikely, nil
	}
	v.others = unlikely
	v.examine(full)
	return v, nil
}

// errNothing returns the error for a prefix without a service. elsewhere is what groupEntries returns.
func errNothing(prefix string, elsewhere []string, full func(string) string) error {
	if len(elsewhere) > 0 && elsewhere[len(elsewhere)-1] != "" {
		key := elsewhere[len(elsewhere)-1]
		return fmt.Errorf("no service is below %q: the keys that begin so are entries of %q: etcdrpc adopt %s", full(prefix), full(key), shell(key))
	}
	if len(elsewhere) > 0 {
		return fmt.Errorf("no service is below %q: the keys that begin so have no slash, so they are not entries of a service", full(prefix))
	}
	return fmt.Errorf("nothing is below %q: list all keys with etcdctl get --prefix --keys-only '', and check --namespace", full(prefix))
}

// likely reports whether the entries are those of a service rather than settings, which have no lease.
func (p *proposal) likely() bool {
	return p.service().evident() || slices.ContainsFunc(p.entries, func(i instance) bool { return i.entry.lease != 0 })
}

// service returns the service as doctor's checks take it.
func (p *proposal) service() *service {
	s := &service{key: p.key, homeMade: p.homeMade}
	for _, i := range p.entries {
		if i.err == nil {
			s.instances = append(s.instances, i)
		} else {
			s.malformed = append(s.malformed, i)
		}
	}
	return s
}

// examine adds the findings to the proposals: those of each service, and those of services side by side.
func (v *adoption) examine(full func(string) string) {
	all := &patient{full: full}
	for _, p := range v.proposals {
		all.services = append(all.services, p.service())
	}
	v.authorize()
	for i, p := range v.proposals {
		p.findings = slices.Concat(all.checkNeighbours(all.services[i]), all.checkListers(all.services[i]), p.examine())
	}
}

// authorize proposes an authority for services whose keys give no TLS name, or that of another service.
func (v *adoption) authorize() {
	taken := make(map[string]bool)
	var without []*proposal
	for _, p := range v.proposals {
		if name := servicekey.TLSName(p.key, ""); name == "" || taken[name] {
			without = append(without, p)
		} else {
			taken[name] = true
		}
	}
	for _, p := range without {
		p.authority = suggestAuthority(p.key, taken)
	}
}

// proposalJSON is the JSON of a proposal.
type proposalJSON struct {
	Key      string         `json:"key"`
	Layout   string         `json:"layout"` // "" for none
	Option   string         `json:"option"` // "" for none
	Entries  int            `json:"entries"`
	Read     int            `json:"read"`
	Layouts  map[string]int `json:"layouts"`
	Findings []finding      `json:"findings"`
}

func (v *adoption) json() []proposalJSON {
	all := make([]proposalJSON, len(v.proposals))
	for n, p := range v.proposals {
		all[n] = proposalJSON{p.key, p.homeMade.name(p.layout), p.option(), len(p.entries), p.read(), p.layouts(), append([]finding{}, p.findings...)}
	}
	return all
}

func (v *adoption) show(out io.Writer, f format) error {
	if f == formatJSON {
		if err := writeJSON(out, v.json()); err != nil {
			return err
		}
	} else {
		v.print(out)
	}
	for _, p := range v.proposals {
		if p.option() == "" {
			return errFound
		}
	}
	return nil
}

func (v *adoption) print(out io.Writer) {
	for _, p := range v.proposals {
		p.print(out)
	}
	if len(v.others) > 0 {
		entries, keys := 0, make([]string, len(v.others))
		for n, p := range v.others {
			entries += len(p.entries)
			keys[n] = p.key
		}
		sayf(out, "%s below other keys, which do not look like services: %s.\n", entriesAre(entries), quoted(keys))
	}
}

// maxUnread bounds how many entries that no client would read are listed.
const maxUnread = 20

func (p *proposal) print(out io.Writer) {
	name := "no layout reads an entry"
	if !p.layout.IsZero() {
		name = p.homeMade.name(p.layout)
	}
	sayf(out, "%s: %s; clients read %d of %s\n\n", p.key, name, p.read(), entriesCounted(len(p.entries)))
	if option := p.option(); option != "" {
		sayLines(out, "  "+strings.ReplaceAll(strings.TrimSuffix(option, "\n"), "\n", "\n  "))
		sayf(out, "\n")
	}
	unread := 0
	for _, f := range p.findings {
		if f.Kind == kindUnread {
			if unread++; unread > maxUnread {
				continue
			}
		}
		f.print(out)
	}
	if more := unread - maxUnread; more > 0 {
		sayf(out, "There are others that clients would not read (%d): -o json lists all of them.\n\n", more)
	}
}

func entriesCounted(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

func entriesAre(n int) string {
	if n == 1 {
		return "There is 1 entry"
	}
	return fmt.Sprintf("There are %d entries", n)
}
