package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// changeLines writes a line for each difference between the views it is given.
type changeLines struct {
	out    io.Writer
	format output.Format
	known  map[string]change // by the keys in etcd; nil: nothing was shown yet
}

// leased returns the entries whose lines tell the time left.
func (l *changeLines) leased(v *view) (all []*survey.Instance) {
	if l.format != output.FormatJSON {
		return nil
	}
	for _, c := range differences(l.known, changesOf(v)) {
		if c.Change != removed {
			all = append(all, c.entry)
		}
	}
	return all
}

func (l *changeLines) show(v *view) error {
	now := changesOf(v)
	if l.known == nil && len(now) == 0 && l.format == output.FormatTable {
		output.Sayf(l.out, "no instances\n")
	}
	if l.known == nil {
		l.known = make(map[string]change)
	}
	for _, c := range differences(l.known, now) {
		c.Time = time.Now().UTC().Truncate(time.Millisecond)
		if err := l.write(c); err != nil {
			return err
		}
		if l.known[c.etcdKey] = c; c.Change == removed {
			delete(l.known, c.etcdKey)
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

// noted says what is not known of the views that are shown, once until there is something else to say.
func noted(show func(*view) error, notes io.Writer) func(*view) error {
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
	Time      time.Time      `json:"time"`
	Change    string         `json:"change"`
	Key       string         `json:"key"`
	Instance  *survey.JSON   `json:"instance,omitempty"`
	Malformed *malformedJSON `json:"malformed,omitempty"`

	etcdKey string
	entry   *survey.Instance
	text    string // of a line
	state   string // what makes a change, if it is another
}

// changesOf returns each entry of a view, as one that came.
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

// differences returns what has changed between what was known and what is now. What left comes last.
func differences(known map[string]change, now []change) (all []change) {
	there := make(map[string]bool, len(now))
	for _, c := range now {
		there[c.etcdKey] = true
		old, ok := known[c.etcdKey]
		if ok {
			c.Change = changed
		}
		if !ok || old.state != c.state {
			all = append(all, c)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(known)) {
		if c := known[key]; !there[key] {
			c.Change = removed
			all = append(all, c)
		}
	}
	return all
}

// describe returns an instance on one line, without the time left on its lease.
func describe(i *survey.JSON) string {
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
			fmt.Fprintf(&out, ", started %s", survey.StartedText(value))
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
