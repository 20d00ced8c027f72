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
func changeLines(out io.Writer, f output.Format) func(*view) error {
	write := writeChange
	if f == output.FormatJSON {
		write = func(w io.Writer, c change) error { return output.WriteJSONLine(w, c) }
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
		if first && len(now) == 0 && f == output.FormatTable {
			output.Sayf(out, "no instances\n")
		}
		known, first = keyed(now), false
		return nil
	}
}

// noted says what is not known of the views that are shown, once until there is something else to say.
func noted(show func(*view) error, notes io.Writer) func(*view) error {
	note := output.Once(notes)
	return func(v *view) error {
		note(v.note)
		return show(v)
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

// changesOf returns each entry of a view, as one that came.
func changesOf(v *view) (all []change) {
	for _, s := range v.json() {
		for _, i := range s.Instances {
			c := change{Key: s.Key, Instance: &i, etcdKey: i.EtcdKey, text: describe(&i)}
			c.state = c.text + i.Metadata[endpoint.MethodsName]
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

// differences returns what has changed between what was known and what is now. What left comes last.
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
	for _, key := range slices.Sorted(maps.Keys(known)) {
		if _, ok := current[key]; !ok {
			c := known[key]
			c.Change = "removed"
			all = append(all, c)
		}
	}
	return all
}

// describe returns an instance on one line, without the time left on its lease.
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

func writeChange(w io.Writer, c change) error {
	sign := map[string]string{"added": "+", "changed": "~", "removed": "-"}[c.Change]
	text := c.text
	if c.Malformed != nil {
		text = c.etcdKey + ": " + text
	}
	return output.Writef(w, "%s %s %s\n", c.Time.Format("15:04:05.000"), sign, text)
}
