package serviceconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

const (
	childField = "childPolicy"
	splitField = "split"
	drainField = "drain"
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
	// MinHealthyPercent is the share of the endpoints that etcd has which a drain must leave to be followed. 0: any.
	MinHealthyPercent uint32 `json:"minHealthyPercent,omitempty"`
	// Drain names instances, or addresses, that get no new calls.
	Drain []string `json:"drain,omitempty"`
	// ChildPolicy lists policies, of which the first that is linked picks among the remaining endpoints.
	// The default is round_robin, so it is never empty once read.
	ChildPolicy []Policy `json:"childPolicy"`
}

// Options are the options of the policy. An option is added here and in [Etcd], as a field of LoadBalancing in options.proto, and
// where it does its work.
var Options = []Option{
	{Name: splitField, LiveOnly: true, Own: true, kind: typed(func(e *Etcd) *[]Split { return &e.Split }, readSplits)},
	{
		Name: "preferZone", Own: true, kind: typed(func(e *Etcd) *bool { return &e.PreferZone }, value.bool),
		Note: "These are the shares of a client without a zone; others prefer the instances of their own.", Of: Caller.withoutZone,
	},
	{
		Name: "zoneMinPercent", Own: true, kind: count(func(e *Etcd) *uint32 { return &e.ZoneMinPercent }, MaxPercent), Needs: "preferZone", Beside: Spills,
		Note: "While less than %s % of the zone's instances are ready, calls go to other zones in proportion to what is missing.", Of: Caller.inZone,
	},
	{
		Name: "subset", kind: count(func(e *Etcd) *uint32 { return &e.Subset }, MaxSubset),
		Note: "Each client uses %s instances of a set, different ones in each process; the shares are those over many clients.",
	},
	{
		Name: "slowStart", Own: true, kind: typed(func(e *Etcd) **SlowStart { return &e.SlowStart }, readSlowStart), Beside: StartsSlowly,
		Note: "An instance that has just started has less: its share grows for %s.",
	},
	{
		Name: "route", Own: true, kind: typed(func(e *Etcd) *[]Route { return &e.Route }, readRoutes),
		Note: "These are the shares of calls without a lane.", Of: Caller.withoutLane,
	},
	{Name: "laneHeader", Own: true, kind: typed(func(e *Etcd) *string { return &e.LaneHeader }, readHeader), Needs: "route"},
	{
		Name: "maxConcurrentRequests", Own: true, kind: count(func(e *Etcd) *uint32 { return &e.MaxConcurrentRequests }, math.MaxUint32), Beside: Bounds,
		Note: "While a client has %s calls under way at an instance, its calls go to others.",
	},
	{
		Name: "minHealthyPercent", kind: count(func(e *Etcd) *uint32 { return &e.MinHealthyPercent }, MaxPercent),
		Note: "A drain is followed while it leaves at least %s % of the instances, or of those in no lane where there are lanes.",
	},
	{Name: drainField, LiveOnly: true, kind: typed(func(e *Etcd) *[]string { return &e.Drain }, readDrain)},
	{Name: childField, LiveOnly: true, kind: typed(func(e *Etcd) *[]Policy { return &e.ChildPolicy }, func(v value) ([]Policy, error) { return readPolicies(v, EtcdName) })},
}

var etcdFields = func() fields[Etcd] {
	table := fields[Etcd]{}
	for _, o := range Options {
		table[o.Name] = o.read
	}
	return table
}()

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
	return e.checkEffects()
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
