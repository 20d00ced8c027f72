package schedule

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// The layouts that are named in this module, by their names in package runtime.
const (
	EndpointJSON = "endpoint_json"
	GoZero       = "go_zero"
)

// Layout describes a layout. It uses no code of the runtime, as the simulation judges that code.
type Layout struct {
	Name string
	Bare bool // without metadata
	// Old returns the end of the key and the value of an entry as another system writes it.
	Old func(addr string, lease int64) (end, value string)
	// Read parses a value. It returns false if the value is in another layout.
	Read func(value string) (Entry, bool)
}

// Entry is the content of a value.
type Entry struct {
	Addr, Version string
	Weight        uint32
	Metadata      map[string]any
}

// Layouts has all layouts that servers and writers draw from.
var Layouts = []Layout{
	{
		Name: "plain", Bare: true, Read: readBare,
		Old: func(addr string, _ int64) (end, value string) { return addr, addr },
	},
	{
		Name: EndpointJSON,
		Old: func(addr string, _ int64) (end, value string) {
			return addr, fmt.Sprintf(`{"Op":0,"Addr":%q,"Metadata":"an old one"}`, addr)
		},
		Read: func(value string) (Entry, bool) {
			var e struct {
				Addr     string
				Metadata map[string]any
			}
			ok := json.Unmarshal([]byte(value), &e) == nil
			return Entry{Addr: e.Addr, Metadata: e.Metadata}, ok
		},
	},
	{
		Name: "kratos",
		Old: func(addr string, _ int64) (end, value string) {
			return "writer", fmt.Sprintf(`{"id":"writer","name":"shop","version":"v1","metadata":null,"endpoints":["grpc://%s"]}`, addr)
		},
		Read: func(value string) (Entry, bool) {
			var e struct {
				Version   string
				Metadata  map[string]any
				Endpoints []string
			}
			if json.Unmarshal([]byte(value), &e) != nil || len(e.Endpoints) == 0 {
				return Entry{}, false
			}
			return Entry{Addr: strings.TrimPrefix(e.Endpoints[0], "grpc://"), Version: e.Version, Metadata: e.Metadata}, true
		},
	},
	{
		Name: "kitex",
		Old: func(addr string, _ int64) (end, value string) {
			return addr, fmt.Sprintf(`{"network":"tcp","address":%q,"weight":10,"tags":null}`, addr)
		},
		Read: func(value string) (Entry, bool) {
			var e struct {
				Address string
				Weight  uint32
				Tags    map[string]any
			}
			ok := json.Unmarshal([]byte(value), &e) == nil
			return Entry{Addr: e.Address, Weight: e.Weight, Metadata: e.Tags}, ok
		},
	},
	{
		Name: GoZero, Bare: true, Read: readBare,
		Old: func(addr string, lease int64) (end, value string) { return fmt.Sprint(lease), addr },
	},
}

func readBare(value string) (Entry, bool) { return Entry{Addr: value}, true }

// LayoutNamed returns the layout with a name. It panics if there is none, as the schedule is then invalid.
func LayoutNamed(name string) Layout {
	return Layouts[slices.IndexFunc(Layouts, func(l Layout) bool { return l.Name == name })]
}

// chosen holds the choices of layouts for a server, mostly none.
var chosen = func() [][]string {
	all := [][]string{nil, nil, nil, nil}
	for _, l := range Layouts {
		if l.Name != EndpointJSON { // the default layout
			all = append(all, []string{l.Name})
		}
	}
	return append(all, []string{EndpointJSON, GoZero})
}()
