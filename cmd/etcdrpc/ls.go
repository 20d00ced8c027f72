package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

func newLs(a *app) *cobra.Command {
	var where []string
	var summary bool
	cmd := &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List services and their instances",
		Long: `ls lists the services whose keys begin with PREFIX, and their instances: address,
version, zone, weight, the layout of the entry in etcd and the time left on its
lease. The state is "registered", "drained" by a live config that clients accept,
"leaving" while its owner withdraws the entry, or "malformed". The column LEADER is
shown if an instance leads its service.

--where lists only what matches: NAME=PATTERN or NAME!=PATTERN, where NAME is that of
a column or of a piece of metadata, and * and ? in PATTERN stand for any text and for
any character. Several must all match.

Keys that do not belong to a service are left out, so that etcd may be used for
other things as well.`,
		Example: `  etcdrpc ls acme/ --where zone=eu-1a --where state=drained
  etcdrpc ls --where 'version!=v1.8.*'`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completion(nil),
		RunE: a.connected(func(ctx context.Context, s *store.Store, args []string) error {
			filters, err := parseFilters(where)
			if err != nil {
				return usage.Mistake(err)
			}

			n, err := a.listServices(ctx, s, args)
			if err != nil {
				return err
			}

			n.Services = slices.DeleteFunc(n.Services, func(s *inventory.Service) bool {
				return !s.InUse()
			})
			all := inventory.Entries(n.Services)
			if err := s.AddLeases(ctx, all); err != nil {
				return err
			}

			services := filtered(n.Services, filters)
			prefix := s.Full(strings.Join(args, ""))

			switch {
			case a.output == output.FormatJSON && summary:
				return output.WriteJSON(a.out, summariesOf(services))
			case a.output == output.FormatJSON:
				return output.WriteJSON(a.out, servicesJSON(services))
			case len(all) == 0:
				output.Sayf(a.notes, "No services are registered under \"%s\".\n", prefix)
			case len(services) == 0:
				output.Sayf(a.notes, "No instance under \"%s\" matches --where.\n",
					prefix)
			case summary:
				printSummaries(a.out, summariesOf(services))
			default:
				head, cells := table(inventory.Entries(services))
				output.Table(a.out, head, cells)
			}

			return nil
		}),
	}

	cmd.Flags().StringArrayVar(&where, "where", nil,
		"list only what matches: `NAME=PATTERN`, of a column or metadata; may be repeated")
	cmd.Flags().BoolVar(&summary, "services", false,
		"list a line for each service: its entries by state, version and zone")

	return cmd
}

// summary is what ls --services says of a service.
type summary struct {
	Key      string         `json:"key"`
	Config   *string        `json:"liveConfig"` // its state; null if it could not be read
	States   map[string]int `json:"states"`     // numbers of entries
	Versions map[string]int `json:"versions"`
	Zones    map[string]int `json:"zones"`
}

func summariesOf(services []*inventory.Service) []summary {
	all := make([]summary, len(services))
	for n, s := range services {
		entries := inventory.Entries(services[n : n+1])

		states := make(map[string]int)
		for _, i := range entries {
			states[string(i.State)]++
		}

		all[n] = summary{
			s.Key, inventory.IfRead(s, s.ConfigState()), states,
			inventory.Count(entries, "version"), inventory.Count(entries, "zone"),
		}
	}

	return all
}

func printSummaries(out io.Writer, all []summary) {
	var rows [][]string
	for _, s := range all {
		rows = append(rows, []string{
			s.Key,
			inventory.Counted(s.Versions),
			inventory.Counted(s.Zones),
			*cmp.Or(s.Config, new(string)),
			inventory.Counted(s.States),
		})
	}

	head := []string{"SERVICE", "VERSIONS", "ZONES", "LIVE CONFIG", "STATES"}
	output.Table(out, head, rows)
}

// This is the JSON output of services.
type (
	serviceJSON struct {
		Key string `json:"key"`

		// its state; null if it could not be read
		Config *string `json:"liveConfig"`

		Instances []inventory.JSON `json:"instances"`
		Malformed []malformedJSON  `json:"malformed"`
	}

	malformedJSON struct {
		EtcdKey string `json:"etcdKey"`
		Error   string `json:"error"`
	}
)

func servicesJSON(services []*inventory.Service) []serviceJSON {
	all := make([]serviceJSON, len(services))
	for n, s := range services {
		all[n] = serviceJSON{
			Key:       s.Key,
			Config:    inventory.IfRead(s, s.ConfigState()),
			Instances: []inventory.JSON{},
			Malformed: []malformedJSON{},
		}
		for _, i := range s.Instances {
			all[n].Instances = append(all[n].Instances, s.JSON(&i))
		}

		for _, i := range s.Malformed {
			all[n].Malformed = append(all[n].Malformed,
				malformedJSON{s.Namespace + i.Entry.Key, i.Err.Error()})
		}
	}

	return all
}

// columns are the columns of ls. LEADER is hidden if no instance is a leader.
var columns = []string{
	"SERVICE", "INSTANCE", "ADDRESS", "VERSION", "ZONE",
	"WEIGHT", "LAYOUT", "LEASE", "LEADER", "STATE",
}

// rowOf returns the cells of an entry, in the order of columns.
func rowOf(i *inventory.Instance) []string {
	var weight, layout, leader string

	state := string(i.State)

	if i.Weight != 0 {
		weight = strconv.FormatUint(uint64(i.Weight), 10)
	}

	if i.Err != nil {
		state += ": " + i.Err.Error()
	} else {
		layout = i.Layout.String()
	}

	if i.Leads {
		leader = "leader"
	}

	if i.State == inventory.Drained && i.Drain.Until != "" {
		state += " until " + i.Drain.Until
	}

	return []string{
		i.Service, i.Instance, i.Addr, i.Version, i.Zone,
		weight, layout, leaseOf(i), leader, state,
	}
}

func leaseOf(i *inventory.Instance) string {
	switch {
	case i.Entry.Lease == 0:
		return "none"
	case i.Lease == nil:
		return ""
	case i.Lease.Expired():
		return "expired"
	}

	return output.Seconds(i.Lease.Remaining) + " of " + output.Seconds(i.Lease.Granted)
}

// fieldOf returns an entry's value in the column called name or, without such a
// column, its metadata of that name.
func fieldOf(i *inventory.Instance, name string) string {
	n := slices.IndexFunc(columns, func(head string) bool {
		return strings.EqualFold(head, name)
	})

	switch {
	case n < 0:
		return i.Field(name)
	case columns[n] == "STATE":
		return string(i.State)
	}

	return rowOf(i)[n]
}

// table returns the header and the rows of the table of entries.
func table(entries []*inventory.Instance) (head []string, cells [][]string) {
	leads := func(i *inventory.Instance) bool { return i.Leads }
	hasLeader := slices.ContainsFunc(entries, leads)
	leader := slices.Index(columns, "LEADER")

	shown := func(row []string) []string {
		if hasLeader {
			return row
		}

		return slices.Concat(row[:leader], row[leader+1:])
	}

	for _, i := range entries {
		cells = append(cells, shown(rowOf(i)))
	}

	return shown(columns), cells
}

// filter is a condition on an entry.
type filter struct {
	name    string // the name of a column or of a piece of metadata
	negated bool   // only values that do not match pass
	pattern *regexp.Regexp
}

// parseFilters parses NAME=PATTERN and NAME!=PATTERN. In a pattern * matches
// any text and ? any character.
func parseFilters(texts []string) (all []filter, err error) {
	wild := strings.NewReplacer(`\*`, ".*", `\?`, ".")
	for _, text := range texts {
		name, pattern, ok := strings.Cut(text, "=")
		name, negated := strings.CutSuffix(name, "!")
		if !ok || name == "" {
			return nil, fmt.Errorf("--where: %.60q is not a condition: want NAME=PATTERN or NAME!=PATTERN, such as zone=eu-1a", text)
		}

		pattern = wild.Replace(regexp.QuoteMeta(pattern))
		compiled, err := regexp.Compile("(?s)^" + pattern + "$")
		if err != nil {
			return nil, fmt.Errorf("--where: %.60q: %w", text, err)
		}

		all = append(all, filter{name, negated, compiled})
	}

	return all, nil
}

// filtered removes the entries that do not pass all filters, and then the
// services that have no entry left.
func filtered(services []*inventory.Service, filters []filter) []*inventory.Service {
	fails := func(i inventory.Instance) bool {
		return slices.ContainsFunc(filters, func(f filter) bool {
			return f.pattern.MatchString(fieldOf(&i, f.name)) == f.negated
		})
	}

	return slices.DeleteFunc(services, func(s *inventory.Service) bool {
		s.Instances = slices.DeleteFunc(s.Instances, fails)
		s.Malformed = slices.DeleteFunc(s.Malformed, fails)

		return !s.InUse()
	})
}

func newWatch(a *app) *cobra.Command {
	return a.ofService(&cobra.Command{
		Use:   "watch KEY",
		Short: "Follow the instances of a service",
		Long: `watch shows the instances of the service at KEY and follows them until it is interrupted.
It writes a line for each change, with the local time: "+" came, "-" left, "~" changed.`,
		RunE: a.connected(func(ctx context.Context, s *store.Store, args []string) error {
			w := &watch{out: a.out, notes: a.notes, format: a.output}
			return w.run(ctx, s, args[0])
		}),
	})
}

// watch prints a line for each difference between successive snapshots of a
// service.
type watch struct {
	out, notes io.Writer
	format     output.Format
	seen       bool     // a snapshot was received
	previous   []change // the entries of the last snapshot
}

// change is a line of watch.
type change struct {
	Time      time.Time       `json:"time"`
	Change    string          `json:"change"` // "added", "changed" or "removed"
	Key       string          `json:"key"`
	Instance  *inventory.JSON `json:"instance,omitempty"`
	Malformed *malformedJSON  `json:"malformed,omitempty"`

	etcdKey string
	text    string // the text of the line
	methods string // names of the methods; text has only the number of methods
}

// run follows the service until ctx ends, the first read fails or the output
// fails. It reports later errors of etcd and goes on.
func (w *watch) run(ctx context.Context, s *store.Store, key string) (failed error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	note := output.Once(w.notes)
	trouble := output.Once(w.notes)
	read := func(ctx context.Context) (*store.Snapshot, error) {
		return s.At(ctx, key)
	}

	s.Follow(ctx, read, func(n *store.Snapshot, err error) {
		switch {
		case err == nil:
			trouble("")
			note(n.Note)
			failed = w.show(n.Services[0])

		case !w.seen:
			failed = err
		default:
			trouble("etcdrpc: " + err.Error())
		}

		if failed != nil {
			cancel()
		}
	})

	return failed
}

func (w *watch) show(s *inventory.Service) error {
	current := entriesOf(s)
	if !w.seen && len(current) == 0 && w.format == output.FormatTable {
		output.Sayf(w.out, "no instances\n")
	}

	for _, c := range differences(w.previous, current) {
		c.Time = time.Now().UTC().Truncate(time.Millisecond)

		if err := w.write(c); err != nil {
			return err
		}
	}

	w.seen = true
	w.previous = current

	return nil
}

func (w *watch) write(c change) error {
	if w.format == output.FormatJSON {
		return output.WriteJSONLine(w.out, c)
	}

	sign := map[string]string{"added": "+", "changed": "~", "removed": "-"}[c.Change]

	return output.Writef(w.out, "%s %s %s\n", c.Time.Local().Format("15:04:05.000"),
		sign, c.text)
}

// entriesOf returns the entries of a service.
func entriesOf(s *inventory.Service) (all []change) {
	for _, e := range inventory.Entries([]*inventory.Service{s}) {
		c := change{Key: s.Key, etcdKey: s.Namespace + e.Entry.Key}
		if e.Err != nil {
			c.Malformed = &malformedJSON{c.etcdKey, e.Err.Error()}
			c.text = c.etcdKey + ": malformed: " + c.Malformed.Error
		} else {
			i := s.JSON(e)
			c.Instance = &i
			c.text = describe(&i)
			c.methods = i.Metadata[endpoint.MethodsName]
		}

		all = append(all, c)
	}

	return all
}

// differences returns the changes between two snapshots. Removed entries are at
// the end.
func differences(previous, current []change) (all []change) {
	gone := make(map[string]change)
	for _, c := range previous {
		gone[c.etcdKey] = c
	}

	for _, c := range current {
		old, known := gone[c.etcdKey]
		switch {
		case !known:
			c.Change = "added"
		case old.text != c.text || old.methods != c.methods:
			c.Change = "changed"
		}

		delete(gone, c.etcdKey)

		if c.Change != "" {
			all = append(all, c)
		}
	}

	for _, key := range slices.Sorted(maps.Keys(gone)) {
		c := gone[key]
		c.Change = "removed"
		all = append(all, c)
	}

	return all
}

// describe returns an instance as one line, without its lease.
func describe(i *inventory.JSON) string {
	parts := []string{i.Layout}
	add := func(there bool, format string, args ...any) {
		if there {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}

	add(i.Version != "", "version %s", i.Version)
	add(i.Zone != "", "zone %s", i.Zone)
	add(i.Weight != 0, "weight %d", i.Weight)

	for _, name := range slices.Sorted(maps.Keys(i.Metadata)) {
		value := i.Metadata[name]

		switch name {
		case endpoint.MethodsName:
			n := 1 + strings.Count(value, ",") + strings.Count(value, ";")
			add(true, "serves %s", output.Counted(n, "method"))

		case endpoint.StartedName:
			if at, ok := (&endpoint.Endpoint{Metadata: i.Metadata}).Started(); ok {
				value = at.UTC().Format(time.RFC3339)
			}

			add(true, "started %s", value)

		default:
			add(true, "%s=%s", name, value)
		}
	}

	add(i.Lease == nil, "no lease")
	add(i.Leader, "leader")
	add(i.Drained != nil && *i.Drained, "drained")

	return fmt.Sprintf("%s at %s (%s)", i.Instance, i.Addr, strings.Join(parts, ", "))
}
