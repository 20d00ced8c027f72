package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const (
	// settle is how long changes are collected before they are shown.
	settle = 50 * time.Millisecond
	// refresh spaces the looks at the leases' time on a terminal, and recheck those that notice an
	// etcd which does not answer.
	refresh = time.Second
	recheck = 10 * time.Second
	// retryAfter spaces the attempts after etcd failed.
	retryAfter = time.Second
)

func newWatch(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "watch KEY",
		Short: "Follow the instances of a service",
		Long: `watch shows the instances of the service at KEY and follows them until it is
interrupted. On a terminal it draws the table of ls anew at each change; otherwise
it writes a line for each change: "+" came, "-" left, "~" changed. With
--output json these lines are JSON, one object each.`,
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store, args []string) error {
			out := cmd.OutOrStdout()
			w := watch{store: s, key: args[0], errors: cmd.ErrOrStderr()}
			if file, ok := out.(*os.File); ok && a.output == formatTable && term.IsTerminal(int(file.Fd())) {
				w.show, w.refresh = screen(file, args[0]), refresh
			} else {
				w.show, w.refresh = changeLines(out, a.output), recheck
			}
			return w.run(ctx)
		}),
	}
}

// watch follows one service.
type watch struct {
	store   *store
	key     string
	show    func(*view) error
	refresh time.Duration // how often to look though nothing changed
	errors  io.Writer
}

// run ends with ctx. What goes wrong later than at the first look is told and tried again.
func (w *watch) run(ctx context.Context) error {
	seen := false
	for {
		err := w.follow(ctx, func() { seen = true })
		if ctx.Err() != nil {
			return nil
		}
		if !seen {
			return err
		}
		sayf(w.errors, "etcdrpc: %s; trying again\n", err)
		pause(ctx, retryAfter)
	}
}

// follow shows the service at each change until etcd fails.
func (w *watch) follow(ctx context.Context, seen func()) error {
	v, r, revision, err := w.look(ctx)
	if err != nil {
		return err
	}
	seen()
	if err := w.show(v); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed := make(chan struct{}, 1)
	failed := make(chan error, 2)
	nudge := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	go func() { failed <- w.store.follow(ctx, r, revision, nudge) }()
	go func() {
		config := configPrefix + w.key
		// Who may not see the live config still sees the instances.
		if err := w.store.follow(ctx, keyRange{config, config + "\x00"}, revision, nudge); !errors.Is(err, errDenied) {
			failed <- err
		}
	}()
	for {
		if err := w.wait(ctx, changed, failed); err != nil {
			return err
		}
		v, _, _, err := w.look(ctx)
		if err != nil {
			return err
		}
		if err := w.show(v); err != nil {
			return err
		}
	}
}

// wait returns when it is time to look again.
func (w *watch) wait(ctx context.Context, changed <-chan struct{}, failed <-chan error) error {
	select {
	case <-changed:
		pause(ctx, settle)
		return nil
	case <-time.After(w.refresh):
		return nil
	case err := <-failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look reads the service as it is now.
func (w *watch) look(ctx context.Context) (*view, keyRange, int64, error) {
	entries, r, revision, err := w.store.entriesOf(ctx, w.key)
	if err != nil {
		return nil, r, 0, err
	}
	found, _ := surveyKey(w.key, entries)
	found.config, err = w.store.get(ctx, configPrefix+w.key)
	if err != nil && !errors.Is(err, errDenied) {
		return nil, r, 0, err
	}
	services := []*service{found}
	leases, err := w.store.leases(ctx, leaseIDs(services))
	return &view{services: services, leases: leases, full: w.store.full}, r, revision, err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// screen draws views on a terminal, one over the other.
func screen(out *os.File, key string) func(*view) error {
	return func(v *view) error {
		width, height, err := term.GetSize(int(out.Fd()))
		if err != nil {
			width, height = 80, 24
		}
		return paint(out, frame(v, key, time.Now(), width, height))
	}
}

// frame is the lines in which a terminal shows a view.
func frame(v *view, key string, now time.Time, width, height int) []string {
	var text strings.Builder
	rows := v.rows()
	sayf(&text, "%s at %s: %s (Ctrl-C ends)\n\n", key, now.Format(time.TimeOnly), counted(len(rows), "instance"))
	if len(rows) > 0 {
		table(&text, instanceHead[1:], withoutService(rows))
	}
	all := lines(text.String())
	if height > 1 && len(all) > height-1 {
		left := len(all) - (height - 2)
		all = append(all[:height-2], fmt.Sprintf("and %d more", left))
	}
	for i, line := range all {
		if cells := []rune(line); width > 0 && len(cells) > width {
			all[i] = string(cells[:width])
		}
	}
	return all
}

func withoutService(rows [][]string) [][]string {
	short := make([][]string, len(rows))
	for i, row := range rows {
		short[i] = row[1:]
	}
	return short
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// changeLines writes a line for each difference between the views it is given.
func changeLines(out io.Writer, f format) func(*view) error {
	write := writeChange
	if f == formatJSON {
		write = func(w io.Writer, c change) error { return writeJSONLine(w, c) }
	}
	known := map[string]change{}
	first := true
	return func(v *view) error {
		now := changesOf(v)
		for _, c := range differences(known, now) {
			c.Time = time.Now().UTC().Truncate(time.Millisecond)
			if err := write(out, c); err != nil {
				return err
			}
		}
		if first && len(now) == 0 && f == formatTable {
			sayf(out, "no instances\n")
		}
		known, first = keyed(now), false
		return nil
	}
}

// change is one line of JSON.
type change struct {
	Time      time.Time      `json:"time"`
	Change    string         `json:"change"` // "added", "changed", "removed"
	Key       string         `json:"key"`
	Instance  *instanceJSON  `json:"instance,omitempty"`
	Malformed *malformedJSON `json:"malformed,omitempty"`

	etcdKey string
	text    string // of a line
	state   string // what makes a change, if it is another
}

// changesOf is each entry of a view, as one that came.
func changesOf(v *view) (all []change) {
	for _, s := range v.json() {
		for _, i := range s.Instances {
			c := change{Key: s.Key, Instance: &i, etcdKey: i.EtcdKey, text: describe(&i)}
			c.state = c.text + i.Metadata[methodsName]
			all = append(all, c)
		}
		for _, m := range s.Malformed {
			text := "malformed: " + m.Error
			all = append(all, change{Key: s.Key, Malformed: &m, etcdKey: m.EtcdKey, text: text, state: text})
		}
	}
	return all
}

func keyed(changes []change) map[string]change {
	byKey := make(map[string]change, len(changes))
	for _, c := range changes {
		byKey[c.etcdKey] = c
	}
	return byKey
}

// differences is what has changed between what was known and what is now, what left last.
func differences(known map[string]change, now []change) (all []change) {
	for _, c := range now {
		old, ok := known[c.etcdKey]
		switch {
		case !ok:
			c.Change = "added"
		case old.state != c.state:
			c.Change = "changed"
		default:
			continue
		}
		all = append(all, c)
	}
	current := keyed(now)
	for _, key := range sortedKeys(known) {
		if _, ok := current[key]; !ok {
			c := known[key]
			c.Change = "removed"
			all = append(all, c)
		}
	}
	return all
}

// methodsName is the piece of metadata in which servers say which methods they serve, at length:
// "acme.User/Get,List;acme.Other/Do".
const methodsName = "grpc_methods"

// startedName is the piece of metadata in which servers say when they started, in seconds since 1970.
const startedName = "grpc_started"

// startedText is when a server started, as a time if it is one.
func startedText(value string) string {
	seconds, err := strconv.ParseUint(value, 10, 33)
	if err != nil {
		return value
	}
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}

// describe is an instance on one line, without the time left on its lease.
func describe(i *instanceJSON) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s at %s (%s", i.Instance, i.Addr, i.Layout)
	for _, part := range [][2]string{{"version", i.Version}, {"zone", i.Zone}} {
		if part[1] != "" {
			fmt.Fprintf(&out, ", %s %s", part[0], part[1])
		}
	}
	if i.Weight != 0 {
		fmt.Fprintf(&out, ", weight %d", i.Weight)
	}
	for _, name := range sortedKeys(i.Metadata) {
		switch value := i.Metadata[name]; name {
		case methodsName:
			fmt.Fprintf(&out, ", serves %s", counted(1+strings.Count(value, ",")+strings.Count(value, ";"), "method"))
		case startedName:
			fmt.Fprintf(&out, ", started %s", startedText(value))
		default:
			fmt.Fprintf(&out, ", %s=%s", name, value)
		}
	}
	if i.Lease == nil {
		out.WriteString(", no lease")
	}
	if i.Drained {
		out.WriteString(", drained")
	}
	return out.String() + ")"
}

func writeChange(w io.Writer, c change) error {
	sign := map[string]string{"added": "+", "changed": "~", "removed": "-"}[c.Change]
	text := c.text
	if c.Malformed != nil {
		text = c.etcdKey + ": " + text
	}
	return writef(w, "%s %s %s\n", c.Time.Format("15:04:05.000"), sign, text)
}
