// Package oldreader says what the readers of other frameworks cannot bear: what they make of entries that are not their
// servers'. docs/layouts.md has it for people, and the tests of compat hold it against the readers themselves.
package oldreader

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Reader is that of a framework, by which its callers find services.
type Reader struct {
	Name     string          // as in "kratos' reader"
	Layout   endpoint.Layout // of its own servers
	Bare     bool            // it lists by the bare key, and so finds the entries of keys that begin like it, too
	troubles []trouble       // in the order in which it meets them: the first that an entry makes is what it does
}

// trouble is what a reader does over an entry.
type trouble struct {
	does string // it follows the reader's name
	over func(key string, value []byte) bool
}

// All are the readers that some entries harm. Those of the other layouts pass over what they cannot call.
var All = []Reader{
	{Name: "GoFrame's", Layout: endpoint.GoFrame, Bare: true, troubles: []trouble{
		{"gives up, in a search by name, on the whole list over a key of fewer parts than its own", func(key string, _ []byte) bool { return strings.Count(key, "/") < goFrameParts }},
		{"panics at a key that does not end in host:port", func(key string, _ []byte) bool { return !endsInAddrs(key) }},
		{"gives up on the whole list over a value that is not a JSON object", func(_ string, value []byte) bool { return !parses[map[string]any](value) }},
	}},
	{Name: "kratos'", Layout: endpoint.Kratos, Bare: true, troubles: []trouble{
		{"gives up on the whole list over an entry that it cannot parse", func(_ string, value []byte) bool { return !parses[kratos](value) }},
	}},
	{Name: "kitex'", Layout: endpoint.Kitex, troubles: []trouble{
		{"adds an instance without an address for JSON that has none under its names", func(_ string, value []byte) bool {
			its, ok := parse[kitex](value)
			return ok && its.Address == ""
		}},
	}},
	{Name: "go-micro's", Layout: endpoint.GoMicro, troubles: []trouble{
		{"takes JSON of others for a service without nodes or a name", func(_ string, value []byte) bool {
			its, ok := parse[goMicro](value)
			return ok && (its.Name == "" || len(its.Nodes) == 0)
		}},
	}},
}

// goFrameParts is how many parts GoFrame's keys have: /service/DEPLOYMENT/NAMESPACE/NAME/VERSION/ADDRESS.
const goFrameParts = 6

// What the readers decode of a value. The names match in either case, so those of etcd's naming package and of go-micro may be
// taken for a reader's own.
type (
	kratos struct {
		ID, Name, Version string
		Metadata          map[string]string
		Endpoints         []string
	}
	kitex struct {
		Network, Address string
		Weight           int
		Tags             map[string]string
	}
	goMicro struct {
		Name  string
		Nodes []json.RawMessage
	}
)

func parse[T any](value []byte) (its T, ok bool) {
	err := json.Unmarshal(value, &its)
	return its, err == nil
}

func parses[T any](value []byte) bool {
	_, ok := parse[T](value)
	return ok
}

// endsInAddrs reports whether GoFrame's reader can take the last segment of a key for the addresses of a server.
func endsInAddrs(key string) bool {
	for addr := range strings.SplitSeq(key[strings.LastIndexByte(key, '/')+1:], ",") {
		if strings.Count(addr, ":") != 1 {
			return false
		}
	}
	return true
}

// Of returns the reader for the entries of a layout. ok is false if no entry harms it.
func Of(layout endpoint.Layout) (r Reader, ok bool) {
	n := slices.IndexFunc(All, func(r Reader) bool { return r.Layout == layout })
	if n < 0 {
		return Reader{}, false
	}
	return All[n], true
}

// Over returns what the reader does over an entry, "" if it bears it.
func (r Reader) Over(key string, value []byte) string {
	for _, t := range r.troubles {
		if t.over(key, value) {
			return t.does
		}
	}
	return ""
}

// Does returns all that the reader does over entries of others.
func (r Reader) Does() string {
	all := make([]string, len(r.troubles))
	for n, t := range r.troubles {
		all[n] = t.does
	}
	return strings.Join(all, "; it ")
}

// Bears returns the layouts that may be written at a service key while the reader reads there, its own first. They are those of
// servers with an instance id of their own.
func (r Reader) Bears(service string) []endpoint.Layout {
	const lease = 7587882123456789012
	e := endpoint.Endpoint{Instance: "one", Addr: "10.0.0.7:9000", Version: "v2", Weight: 7, Metadata: map[string]string{"k": "v"}}
	all := []endpoint.Layout{r.Layout}
	for _, l := range endpoint.Layouts() {
		value, err := l.Encode(service, e)
		key := l.Key(service, e, lease)
		if err == nil && key != r.Layout.Key(service, e, lease) && r.Over(key, value) == "" {
			all = append(all, l)
		}
	}
	return all
}
