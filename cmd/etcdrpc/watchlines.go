package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// changeLines prints a line for each difference between successive views.
type changeLines struct {
	out    io.Writer
	format output.Format
	last   map[string]change // by etcd key; nil before the first view
}

// changedEntries returns the entries whose JSON lines include their lease.
func (l *changeLines) changedEntries(v *view) (all []*inventory.Instance) {
	if l.format != output.FormatJSON {
		return nil
	}
	for _, c := range differences(l.last, changesOf(v)) {
		if c.Change != removed {
			all = append(all, c.entry)
		}
	}
	return all
}

func (l *changeLines) show(v *view) error {
	now := changesOf(v)
	if l.last == nil && len(now) == 0 && l.format == output.FormatTable {
		output.Sayf(l.out, "no instances\n")
	}
	if l.last == nil {
		l.last = make(map[string]change)
	}
	for _, c := range differences(l.last, now) {
		c.Time = time.Now().UTC().Truncate(time.Millisecond)
		if err := l.write(c); err != nil {
			return err
		}
		if l.last[c.etcdKey] = c; c.Change == removed {
			delete(l.last, c.etcdKey)
		}
	}
	return nil
}

func (l *changeLines) write(c change) error {
	if l.format == output.FormatJSON {
		return output.WriteJSONLine(l.out, c)
	}
	sign := map[string]string{added: "+", changed: "~", removed: "-"}[c.Change]
	text := c.text
	if c.Malformed != nil {
		text = c.etcdKey + ": " + text
	}
	return output.Writef(l.out, "%s %s %s\n", c.Time.Format("15:04:05.000"), sign, text)
}

// withNotes prints the note of each view before it is shown, unless it is the same as before.
func withNotes(show func(*view) error, notes io.Writer) func(*view) error {
	note := output.Once(notes)
	return func(v *view) error {
		note(v.Note)
		return show(v)
	}
}

// The kinds of changes.
const (
	added   = "added"
	changed = "changed"
	removed = "removed"
)

// change is one line of JSON.
type change struct {
	Time      time.Time       `json:"time"`
	Change    string          `json:"change"`
	Key       string          `json:"key"`
	Instance  *inventory.JSON `json:"instance,omitempty"`
	Malformed *malformedJSON  `json:"malformed,omitempty"`

	etcdKey string
	entry   *inventory.Instance
	text    string // of the line
	state   string // an entry has changed if this differs
}

// changesOf returns the entries of a view as added.
func changesOf(v *view) (all []change) {
	for _, e := range v.all() {
		c := change{Change: added, Key: e.Service, etcdKey: v.Find(e.Service).Namespace + e.Entry.Key, entry: e}
		if e.Err != nil {
			c.Malformed = &malformedJSON{c.etcdKey, e.Err.Error()}
			c.text = "malformed: " + c.Malformed.Error
			c.state = c.text
		} else {
			i := e.JSON(v.Find(e.Service).Namespace)
			c.Instance, c.text = &i, describe(&i)
			c.state = c.text + i.Metadata[endpoint.MethodsName]
		}
		all = append(all, c)
	}
	return all
}

// differences returns the changes from known to now. Removed entries come last.
func differences(known map[string]change, now []change) (all []change) {
	present := make(map[string]bool, len(now))
	for _, c := range now {
		present[c.etcdKey] = true
		old, ok := known[c.etcdKey]
		if ok {
			c.Change = changed
		}
		if !ok || old.state != c.state {
			all = append(all, c)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(known)) {
		if c := known[key]; !present[key] {
			c.Change = removed
			all = append(all, c)
		}
	}
	return all
}

// describe returns an instance as one line, without the time left on its lease.
func describe(i *inventory.JSON) string {
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
	for _, name := range slices.Sorted(maps.Keys(i.Metadata)) {
		switch value := i.Metadata[name]; name {
		case endpoint.MethodsName:
			fmt.Fprintf(&out, ", serves %s", output.Counted(1+strings.Count(value, ",")+strings.Count(value, ";"), "method"))
		case endpoint.StartedName:
			fmt.Fprintf(&out, ", started %s", inventory.StartedText(value))
		default:
			fmt.Fprintf(&out, ", %s=%s", name, value)
		}
	}
	if i.Lease == nil {
		out.WriteString(", no lease")
	}
	if i.Leader {
		out.WriteString(", leader")
	}
	if i.Drained {
		out.WriteString(", drained")
	}
	return out.String() + ")"
}
