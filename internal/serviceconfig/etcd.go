package serviceconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

const (
	childField          = "childPolicy"
	splitField          = "split"
	drainField          = "drain"
	preferZoneField     = "preferZone"
	zoneMinPercentField = "zoneMinPercent"
	slowStartField      = "slowStart"
	routeField          = "route"
	laneHeaderField     = "laneHeader"
	maxRequestsField    = "maxConcurrentRequests"
)

// MaxSubset bounds the endpoints of a subset. It is above any number of endpoints that a client keeps.
const MaxSubset = 100_000

// Etcd is the config of the policy "etcd", which decides which instances a call may go to.
type Etcd struct {
	// Split divides the calls among groups of endpoints. An endpoint belongs to the first group that it
	// matches; endpoints that match none get calls only while no group has a ready one.
	Split []Split `json:"split,omitempty"`
	// PreferZone sends the calls to the client's own zone while an endpoint there is ready.
	PreferZone bool `json:"preferZone,omitempty"`
	// ZoneMinPercent is the share of the zone's endpoints that must be ready for all of its calls to stay.
	// 0: calls leave the zone only when none there is ready.
	ZoneMinPercent uint32 `json:"zoneMinPercent,omitempty"`
	// Subset is how many endpoints each client uses. 0: all.
	Subset uint32 `json:"subset,omitempty"`
	// SlowStart lets the share of an instance that has just started grow.
	SlowStart *SlowStart `json:"slowStart,omitempty"`
	// Route says which endpoints get the calls of lanes.
	Route []Route `json:"route,omitempty"`
	// LaneHeader is the request metadata that names the lane of a call whose context names none, in lower
	// case. "": there is none.
	LaneHeader string `json:"laneHeader,omitempty"`
	// MaxConcurrentRequests bounds the calls that a client has under way at one endpoint. 0: no bound.
	MaxConcurrentRequests uint32 `json:"maxConcurrentRequests,omitempty"`
	// Drain names instances, or addresses, that get no new calls.
	Drain []string `json:"drain,omitempty"`
	// ChildPolicy lists policies, of which the first that is linked picks among the remaining endpoints.
	// The default is round_robin, so it is never empty once read.
	ChildPolicy []Policy `json:"childPolicy"`
}

var etcdFields = fields[Etcd]{
	splitField:      func(e *Etcd, v value) error { return assign(&e.Split)(readSplits(v)) },
	preferZoneField: func(e *Etcd, v value) error { return assign(&e.PreferZone)(v.bool()) },
	zoneMinPercentField: func(e *Etcd, v value) error {
		return assign(&e.ZoneMinPercent)(number[uint32](v, 1, MaxPercent))
	},
	"subset":        func(e *Etcd, v value) error { return assign(&e.Subset)(number[uint32](v, 1, MaxSubset)) },
	slowStartField:  func(e *Etcd, v value) error { return set(&e.SlowStart)(readSlowStart(v)) },
	routeField:      func(e *Etcd, v value) error { return assign(&e.Route)(readRoutes(v)) },
	laneHeaderField: func(e *Etcd, v value) error { return assign(&e.LaneHeader)(readHeader(v)) },
	maxRequestsField: func(e *Etcd, v value) error {
		return assign(&e.MaxConcurrentRequests)(number[uint32](v, 1, math.MaxUint32))
	},
	drainField: func(e *Etcd, v value) error { return assign(&e.Drain)(readDrain(v)) },
	childField: func(e *Etcd, v value) error { return assign(&e.ChildPolicy)(readPolicies(v, EtcdName)) },
}

// ParseEtcd reads the config of the policy "etcd", as gRPC hands it to the policy. It may come from the
// caller's own code, so policies below may be ones that are not described here; their configs are kept
// as they are.
func ParseEtcd(text json.RawMessage) (*Etcd, error) {
	v, err := parseText(string(text))
	if err != nil {
		return nil, fmt.Errorf("policy %q: %w", EtcdName, err)
	}
	v.trusted = true
	e, err := readObject(v, etcdFields)
	if err == nil {
		err = e.check()
	}
	if err != nil {
		return nil, fmt.Errorf("policy %q: %w", EtcdName, err)
	}
	return &e, nil
}

// check fills in what is left out, and refuses what would have no effect.
func (e *Etcd) check() error {
	if e.ChildPolicy == nil {
		e.ChildPolicy = []Policy{{RoundRobinName, &Bare{}}}
	}
	switch {
	case e.ZoneMinPercent > 0 && !e.PreferZone:
		return in(zoneMinPercentField, errors.New("has no effect without preferZone: set that too"))
	case e.LaneHeader != "" && e.Route == nil:
		return in(laneHeaderField, errors.New("has no effect without route: set that too"))
	}
	for _, p := range e.ChildPolicy {
		if err := e.checkBeside(p.Name); err != nil {
			return err
		}
	}
	return nil
}

// checkBeside refuses an option that has no effect where a policy picks.
func (e *Etcd) checkBeside(policy string) error {
	asks := e.asks()
	switch {
	case asks != "" && !Ours(policy):
		return in(asks, fmt.Errorf("has no effect beside %.80q, which picks by itself: leave one of them out", policy))
	case e.ZoneMinPercent > 0 && !Spills(policy):
		return in(zoneMinPercentField, fmt.Errorf("has no effect beside %q: leave one of them out", policy))
	case e.SlowStart != nil && !StartsSlowly(policy):
		return in(slowStartField, fmt.Errorf("has no effect beside %q: want round_robin, %s or %s", policy, WeightedName, PeakEwmaName))
	case e.MaxConcurrentRequests > 0 && !Bounds(policy):
		return in(maxRequestsField, fmt.Errorf("has no effect beside %q: leave one of them out", policy))
	}
	return nil
}

// asks returns the first option that asks something of each pick, "" if none does. zoneMinPercent and laneHeader never
// stand alone. drain and subset only choose endpoints, so they go with any policy.
func (e *Etcd) asks() (field string) {
	switch {
	case e.Split != nil:
		return splitField
	case e.PreferZone:
		return preferZoneField
	case e.Route != nil:
		return routeField
	case e.SlowStart != nil:
		return slowStartField
	case e.MaxConcurrentRequests > 0:
		return maxRequestsField
	}
	return ""
}

// Ours reports whether a policy picks among the connections of the policy "etcd". Any other has connections of its own, and
// stands below it as one child.
func Ours(policy string) bool {
	switch policy {
	case RoundRobinName, PickFirstName, LeastRequestName, RingHashName, WeightedName, PeakEwmaName:
		return true
	}
	return false
}

// Spills reports whether calls can leave a zone in proportion where a policy picks, which they cannot if it keeps
// them with an endpoint.
func Spills(policy string) bool { return policy != PickFirstName && policy != RingHashName }

// Bounds reports whether calls under way can be bounded where a policy picks. pick_first has nowhere else to go.
func Bounds(policy string) bool { return policy != PickFirstName }

// StartsSlowly reports whether a share can grow where a policy picks.
func StartsSlowly(policy string) bool {
	return policy == RoundRobinName || policy == WeightedName || policy == PeakEwmaName
}

func readDrain(v value) ([]string, error) {
	if v.raw[0] == '[' && rawjson.SkipSpace(v.raw[1:])[0] == ']' {
		return nil, nil // as undrain leaves it
	}
	var names []string
	err := v.elements("instances or addresses", func(v value) error {
		name, err := v.text()
		if err == nil && name == "" {
			err = errors.New("want an instance or an address, not an empty name")
		}
		names = append(names, name)
		return err
	})
	return names, err
}
