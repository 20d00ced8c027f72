package serviceconfig

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// These are gRPC's names of the policies that a config may hold.
const (
	RoundRobinName       = "round_robin"
	PickFirstName        = "pick_first"
	LeastRequestName     = "least_request_experimental"
	RingHashName         = "ring_hash_experimental"
	OutlierDetectionName = "outlier_detection_experimental"

	// ours, selects the instances that a call may go to
	EtcdName = "etcd"

	// ours, picks by the endpoints' static weights
	WeightedName = "etcd_weighted"
	PeakEwmaName = "etcd_peak_ewma" // ours, picks by latency times active calls
)

// gRPC's defaults.
const (
	DefaultChoiceCount  = 2
	DefaultMinRingSize  = 1024
	DefaultMaxRingSize  = 4096
	DefaultBaseEjection = Duration(30 * time.Second)
)

// PolicyRule describes a policy: its names, the type of its config and its
// allowed places.
type PolicyRule struct {
	// Proto is the name in proto files, "" if they do not name the policy
	Proto, Name string

	Given  map[string]any // the parts of the config that proto files do not set
	config reflect.Type   // a different type for each policy
	below  []string       // the parents that the policy may have

	// the package that registers the policy, if a binary may not link it
	pkg string
}

// top is the parent of the policies at the top of a config.
const top = ""

var anywhere = []string{top, EtcdName, OutlierDetectionName}

// Picking has the policies that "etcd" implements itself, over its own
// connections, the default first. A new policy begins with a row here.
var Picking = []PolicyRule{
	{
		Proto:  "round_robin",
		Name:   RoundRobinName,
		config: reflect.TypeFor[RoundRobin](),
		below:  anywhere,
	},
	// Outlier detection has no effect on pick_first, which ignores its health
	// reports.
	{
		Proto:  "pick_first",
		Name:   PickFirstName,
		config: reflect.TypeFor[PickFirst](),
		below:  []string{top, EtcdName},
	},
	{
		Proto:  "least_request",
		Name:   LeastRequestName,
		config: reflect.TypeFor[LeastRequest](),
		below:  anywhere,
	},
	{
		Proto:  "ring_hash",
		Name:   RingHashName,
		config: reflect.TypeFor[RingHash](),
		below:  anywhere,
		Given:  map[string]any{"requestHashHeader": AffinityHeader}},
	{
		Proto:  "weighted",
		Name:   WeightedName,
		config: reflect.TypeFor[Weighted](),
		below:  anywhere,
	},
	{
		Proto:  "peak_ewma",
		Name:   PeakEwmaName,
		config: reflect.TypeFor[PeakEwma](),
		below:  anywhere,
	},
}

// policyRules has the rule of every policy that a config may name: the rules in
// Picking, and the two rules here.
var policyRules = rulesWith(Picking, []PolicyRule{
	{
		Name:   OutlierDetectionName,
		config: reflect.TypeFor[OutlierDetection](),
		below:  []string{top},
		pkg:    "github.com/etcdrpc/protoc-gen-go-etcd/outlierdetection"},
	{
		Name:   EtcdName,
		config: reflect.TypeFor[Etcd](),
		below:  []string{top, OutlierDetectionName},
	},
})

func rulesWith(lists ...[]PolicyRule) map[string]PolicyRule {
	rules := make(map[string]PolicyRule)
	for _, rule := range slices.Concat(lists...) {
		rules[rule.Name] = rule
	}

	return rules
}

// Known reports whether a config may name a policy.
func Known(policy string) bool {
	return policyRules[policy].Name != ""
}

// Policy is an entry in a list of policies.
type Policy struct {
	Name   string
	Config any // a pointer to one of the types below or to Etcd
}

// MarshalJSON implements [json.Marshaler].
func (p Policy) MarshalJSON() ([]byte, error) {
	return marshal(map[string]any{p.Name: p.Config})
}

// children returns the list of child policies, nil if the policy has none.
func (p Policy) children() []Policy {
	switch c := p.Config.(type) {
	case *Etcd:
		return c.ChildPolicy
	case *OutlierDetection:
		return c.ChildPolicy
	}

	return nil
}

// Etcd returns the config of p or, if p is outlier detection, of its first
// child policy. It returns nil if that policy is not "etcd".
func (p Policy) Etcd() *Etcd {
	if detection, ok := p.Config.(*OutlierDetection); ok {
		p = detection.ChildPolicy[0]
	}

	etcd, _ := p.Config.(*Etcd)

	return etcd
}

// RoundRobin is the config of round_robin.
type RoundRobin struct{}

// Weighted is the config of etcd_weighted.
type Weighted struct{}

// PeakEwma is the config of etcd_peak_ewma.
type PeakEwma struct{}

// PickFirst is the config of pick_first.
type PickFirst struct {
	ShuffleAddressList bool `json:"shuffleAddressList,omitempty"`
}

// LeastRequest is the config of least_request_experimental.
type LeastRequest struct {
	ChoiceCount uint32 `json:"choiceCount,omitempty" min:"2" max:"10"`
}

// RingHash is the config of ring_hash_experimental.
type RingHash struct {
	MinRingSize uint64 `json:"minRingSize,omitempty" min:"1" max:"8388608"`
	MaxRingSize uint64 `json:"maxRingSize,omitempty" min:"1" max:"8388608"`

	// RequestHashHeader is required: without it gRPC fails all calls.
	RequestHashHeader string `json:"requestHashHeader" required:"true" header:"true"`
}

// OutlierDetection is the config of outlier_detection_experimental, which
// ejects failing endpoints.
type OutlierDetection struct {
	Interval           *Duration            `json:"interval,omitempty" min:"0.1s"`
	BaseEjectionTime   *Duration            `json:"baseEjectionTime,omitempty"`
	MaxEjectionTime    *Duration            `json:"maxEjectionTime,omitempty"`
	MaxEjectionPercent *uint32              `json:"maxEjectionPercent,omitempty" max:"100"`
	SuccessRate        *SuccessRateEjection `json:"successRateEjection,omitempty"`
	FailurePercentage  *FailureEjection     `json:"failurePercentageEjection,omitempty"`

	// ChildPolicy is required: gRPC crashes without it.
	ChildPolicy []Policy `json:"childPolicy" of:"policies" required:"true"`
}

// SuccessRateEjection ejects endpoints that succeed less often than the others.
type SuccessRateEjection struct {
	StdevFactor           *uint32 `json:"stdevFactor,omitempty"`
	EnforcementPercentage *uint32 `json:"enforcementPercentage,omitempty" max:"100"`
	MinimumHosts          *uint32 `json:"minimumHosts,omitempty"`
	RequestVolume         *uint32 `json:"requestVolume,omitempty"`
}

// FailureEjection ejects endpoints that fail more often than a threshold.
type FailureEjection struct {
	Threshold             *uint32 `json:"threshold,omitempty" max:"100"`
	EnforcementPercentage *uint32 `json:"enforcementPercentage,omitempty" max:"100"`
	MinimumHosts          *uint32 `json:"minimumHosts,omitempty"`
	RequestVolume         *uint32 `json:"requestVolume,omitempty"`
}

// WantHeader describes the names that ValidHeader accepts.
const WantHeader = `the name of a header, of letters, digits, ".", "-" and "_", that does not end in "-bin"`

// ValidHeader reports whether a lower-case name is valid for request metadata
// with text values.
func ValidHeader(name string) bool {
	const legal, longest = "abcdefghijklmnopqrstuvwxyz0123456789.-_", 256

	return name != "" &&
		len(name) <= longest &&
		strings.Trim(name, legal) == "" &&
		!strings.HasSuffix(name, "-bin")
}

func (c *RingHash) check(p place) {
	least := cmp.Or(c.MinRingSize, DefaultMinRingSize)
	most := cmp.Or(c.MaxRingSize, DefaultMaxRingSize)
	if least > most {
		p.in("minRingSize").fault("is %d, above maxRingSize, which is %d; left out, they are %d and %d",
			least, most, DefaultMinRingSize, DefaultMaxRingSize)
	}
}

func (c *OutlierDetection) check(p place) {
	base := DefaultBaseEjection
	if c.BaseEjectionTime != nil {
		base = *c.BaseEjectionTime
	}

	if c.MaxEjectionTime != nil && *c.MaxEjectionTime < base {
		p.in("maxEjectionTime").fault("is %v, below baseEjectionTime, which is %v; left out, that is %v",
			*c.MaxEjectionTime, base, DefaultBaseEjection)
	}

	for i, child := range c.ChildPolicy {
		if etcd, ok := child.Config.(*Etcd); ok {
			etcd.complete()
		}

		for j, below := range child.children() {
			if below.Name == PickFirstName {
				p.in(childField, index(i), child.Name, childField, index(j)).misplaced(
					PickFirstName, OutlierDetectionName)
			}
		}
	}
}

// decode decodes an entry of a list: an object whose one field is the name of a
// policy.
func (p *Policy) decode(at place, v any) {
	var entry object
	switch store(at, &entry, v, "an object"); len(entry) {
	case 0:
		at.fault("the entry names no policy")
	case 1:
		for name, config := range entry {
			*p = at.policy(name, config)
		}

		if p.Name == EtcdName && at.path[len(at.path)-1] != index(0) {
			at.fault("the policy %q must be the first of the list", EtcdName)
		}

	default:
		at.fault("want one policy an entry, not more")
	}
}

// PolicyName is a policy without a config, given by name.
type PolicyName Policy

func (p *PolicyName) decode(at place, v any) {
	var name string
	if store(at, &name, v, "a string") {
		*p = PolicyName(at.policy(name, object{}))
	}
}

// policy decodes the config of a policy.
func (p place) policy(name string, config any) Policy {
	rule, ok := policyRules[name]
	switch {
	case !ok:
		names := slices.Sorted(maps.Keys(policyRules))
		p.fault("want one of the policies %s, not %.80q; %s", strings.Join(names, ", "),
			name, forOthers)

		return Policy{}

	case !slices.Contains(rule.below, p.parent):
		p.misplaced(name, p.parent)
		return Policy{}
	}

	to := reflect.New(rule.config)
	p.parent = name
	p.in(name).decode(config, to.Elem(), "")

	return Policy{name, to.Interface()}
}

// forOthers says how a program uses a policy of another package in place of
// "etcd".
const forOthers = `for any other, call grpc.NewClient("etcd:///KEY", grpc.WithResolvers(registry.Resolver()))`

// misplaced adds the fault that the policy name must not stand below parent. If
// the policy may stand above parent, the text shows how.
func (p place) misplaced(name, parent string) {
	if slices.Contains(policyRules[parent].below, name) {
		p.fault(`the policy %q must not stand below %q but above it: {%[1]q: {..., %[3]q: [{%[2]q: {...}}]}}`,
			name, parent, childField)
		return
	}

	p.fault("the policy %q must not stand below %q", name, parent)
}

// ReadPolicy decodes the config of a policy in a proto file, in protobuf's
// JSON. The error may be [Faults].
func ReadPolicy(name string, config map[string]any) (Policy, error) {
	to := reflect.New(policyRules[name].config).Interface()
	return Policy{name, to}, read(to, config, place{parent: name, written: true})
}

// Read decodes another part of a config in a proto file into a struct of this
// package. The error may be [Faults].
func Read(to any, part map[string]any) error {
	return read(to, part, place{})
}

func read(to any, part object, p place) error {
	text, err := marshal(part)
	return cmp.Or(err, decode(string(text), to, p))
}

// Linked returns an error if a config names policies, but none of them is
// registered. The error says how to link the first policy. Child policies need
// no check: "etcd" implements all of them.
func (c *Config) Linked(registered func(name string) bool) error {
	is := func(p Policy) bool { return registered(p.Name) }
	if len(c.LoadBalancing) == 0 || slices.ContainsFunc(c.LoadBalancing, is) {
		return nil
	}

	name := c.LoadBalancing[0].Name

	hint := ""
	if pkg := policyRules[name].pkg; pkg != "" {
		hint = fmt.Sprintf(" in this binary: import _ %q", pkg)
	}

	return fmt.Errorf("the policy %.80q is not linked%s", name, hint)
}
