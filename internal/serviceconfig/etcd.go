package serviceconfig

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

const (
	childField = "childPolicy"
	splitField = "split"
	routeField = "route"
	drainField = "drain"
)

// Etcd is the config of the policy "etcd", which decides which instances a call may go to. Each field has a row in [Options].
type Etcd struct {
	// Split divides the calls among groups of endpoints. An endpoint belongs to the first group that it
	// matches; endpoints that match none get calls only while no group has a ready one.
	Split []Split `json:"split,omitempty" of:"groups" max:"256"`
	// PreferZone sends the calls to the client's own zone while an endpoint there is ready.
	PreferZone bool `json:"preferZone,omitempty"`
	// ZoneMinPercent is the share of the zone's endpoints that must be ready for all of its calls to stay.
	// 0: calls leave the zone only when none there is ready.
	ZoneMinPercent uint32 `json:"zoneMinPercent,omitempty" min:"1" max:"100"`
	// Subset is the number of endpoints that each client uses. 0: all. Its bound exceeds the endpoints that a client keeps.
	Subset uint32 `json:"subset,omitempty" min:"1" max:"100000"`
	// SlowStart lets the share of an instance that has just started grow.
	SlowStart *SlowStart `json:"slowStart,omitempty"`
	// Route assigns endpoints to lanes.
	Route []Route `json:"route,omitempty" of:"routes" max:"64"`
	// LaneHeader is the request metadata that names the lane of a call whose context names none, in lower
	// case. "": there is none.
	LaneHeader string `json:"laneHeader,omitempty" header:"true"`
	// MaxConcurrentRequests bounds the concurrent calls of a client at one endpoint. 0: no bound.
	MaxConcurrentRequests uint32 `json:"maxConcurrentRequests,omitempty" min:"1"`
	// MinHealthyPercent is the share of the endpoints in etcd that a drain must leave to be followed. 0: any.
	MinHealthyPercent uint32 `json:"minHealthyPercent,omitempty" min:"1" max:"100"`
	// Drain names instances, or addresses, that get no new calls.
	Drain []string `json:"drain,omitempty" of:"instances or addresses" min:"0"`
	// ChildPolicy lists policies. The first one that is linked picks among the remaining endpoints.
	// The default is round_robin, so the list is never empty once parsed.
	ChildPolicy []Policy `json:"childPolicy" of:"policies"`
}

// DefaultSlowStartPercent is the default of a slow start's MinPercent.
const DefaultSlowStartPercent = 10

// SlowStart lets the share of an instance that has just started grow evenly.
type SlowStart struct {
	Window Duration `json:"window" required:"true" min:"1s" max:"3600s"`
	// MinPercent is the share at first, in percent of the full one. 0: DefaultSlowStartPercent.
	MinPercent uint32 `json:"minPercent,omitempty" min:"1" max:"100"`
}

// String returns the window.
func (s *SlowStart) String() string { return time.Duration(s.Window).String() }

// ParseEtcd parses the config of the policy "etcd" that gRPC passes to the policy. The config may come from
// the caller's own code, so child policies may be unknown here; their configs are kept unchanged.
func ParseEtcd(text json.RawMessage) (*Etcd, error) {
	e := new(Etcd)
	if err := decode(string(text), e, place{parent: EtcdName, custom: true}); err != nil {
		return nil, fmt.Errorf("policy %q: %w", EtcdName, err)
	}
	return e, nil
}

func (e *Etcd) check(p place) {
	if e.ChildPolicy == nil {
		e.ChildPolicy = []Policy{{RoundRobinName, &Bare{}}}
	}
	if len(e.Drain) == 0 {
		e.Drain = nil // undrain leaves an empty list
	}
	if i := slices.Index(e.Drain, ""); i >= 0 {
		p.in(drainField, index(i)).fault("want an instance or an address, not an empty name")
	}
	checkSplit(p.in(splitField), e.Split)
	checkRoutes(p.in(routeField), e.Route)
	e.checkOptions(p)
}

// Ours reports whether "etcd" picks by the policy itself, over its own connections. Any other policy is a child of "etcd", with
// its own connections.
func Ours(policy string) bool {
	switch policy {
	case RoundRobinName, PickFirstName, LeastRequestName, RingHashName, WeightedName, PeakEwmaName:
		return true
	}
	return false
}
