package schedule

import (
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// The layouts that are named in this module, by their names in package runtime.
const (
	EndpointJSON = "endpoint_json"
	GoZero       = "go_zero"
)

// LayoutNamed returns the layout with a name. It panics if there is none,
// because the schedule is then invalid.
func LayoutNamed(name string) endpoint.Layout {
	layout, err := endpoint.LayoutByName(name)
	if err != nil {
		panic(err)
	}

	return layout
}

// chosen holds the lists of layouts from which the list of a server is drawn.
// nil stands for the default layout; it is there several times, so that it is
// drawn more often.
var chosen = func() [][]string {
	all := [][]string{nil, nil, nil, nil}
	for _, l := range endpoint.Layouts() {
		if l != endpoint.EndpointJSON { // the default layout
			all = append(all, []string{l.String()})
		}
	}

	return append(all, []string{EndpointJSON, GoZero})
}()

// Suffixed reports whether an entry may be in the layout lease_suffix, which
// callers do not read by default.
func (s Schedule) Suffixed() bool {
	suffix := endpoint.LeaseSuffix.String()
	servers := slices.ContainsFunc(s.Servers, func(v Server) bool {
		return slices.Contains(v.Layouts, suffix)
	})
	writers := slices.Contains(s.Writers, Writer{suffix})

	return servers || writers || s.Other != nil && s.Other.Suffixed()
}
