package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

func newWatch(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "watch KEY",
		Short: "Follow the instances of a service",
		Long: `watch shows the instances of the service at KEY and follows them until it is
interrupted. It writes a line for each change: "+" came, "-" left, "~" changed.`,
		Args:              keyArgs(0),
		ValidArgsFunction: a.completion(nil),
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			w := &watch{out: cmd.OutOrStdout(), notes: cmd.ErrOrStderr(), format: a.output}
			return w.run(ctx, s, args[0])
		}),
	}
}

// watch prints a line for each difference between successive snapshots of a service.
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

// run follows the service until ctx ends, the first read fails or the output fails. It reports later errors of etcd and goes on.
func (w *watch) run(ctx context.Context, s *store.Store, key string) (failed error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	note, trouble := output.Once(w.notes), output.Once(w.notes)
	s.Follow(ctx, func(ctx context.Context) (*store.Snapshot, error) { return s.At(ctx, key) }, func(n *store.Snapshot, err error) {
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
	w.seen, w.previous = true, current
	return nil
}

func (w *watch) write(c change) error {
	if w.format == output.FormatJSON {
		return output.WriteJSONLine(w.out, c)
	}
	sign := map[string]string{"added": "+", "changed": "~", "removed": "-"}[c.Change]
	return output.Writef(w.out, "%s %s %s\n", c.Time.Format("15:04:05.000"), sign, c.text)
}

// entriesOf returns the entries of a service.
func entriesOf(s *inventory.Service) (all []change) {
	for _, e := range inventory.Entries([]*inventory.Service{s}) {
		c := change{Key: s.Key, etcdKey: s.Namespace + e.Entry.Key}
		if e.Err != nil {
			c.Malformed = &malformedJSON{c.etcdKey, e.Err.Error()}
			c.text = c.etcdKey + ": malformed: " + c.Malformed.Error
		} else {
			i := e.JSON(s.Namespace)
			c.Instance, c.text, c.methods = &i, describe(&i), i.Metadata[endpoint.MethodsName]
		}
		all = append(all, c)
	}
	return all
}

// differences returns the changes between two snapshots. Removed entries are at the end.
func differences(previous, current []change) (all []change) {
	gone := make(map[string]change)
	for _, c := range previous {
		gone[c.etcdKey] = c
	}
	for _, c := range current {
		switch old, known := gone[c.etcdKey]; {
		case !known:
			c.Change = "added"
		case old.text != c.text || old.methods != c.methods:
			c.Change = "changed"
		}
		if delete(gone, c.etcdKey); c.Change != "" {
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
		switch value := i.Metadata[name]; name {
		case endpoint.MethodsName:
			add(true, "serves %s", output.Counted(1+strings.Count(value, ",")+strings.Count(value, ";"), "method"))
		case endpoint.StartedName:
			add(true, "started %s", inventory.StartedText(value))
		default:
			add(true, "%s=%s", name, value)
		}
	}
	add(i.Lease == nil, "no lease")
	add(i.Leader, "leader")
	add(i.Drained, "drained")
	return fmt.Sprintf("%s at %s (%s)", i.Instance, i.Addr, strings.Join(parts, ", "))
}
