package serviceconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// The names of the policies that a config may hold, as gRPC knows them.
const (
	RoundRobinName         = "round_robin"
	PickFirstName          = "pick_first"
	LeastRequestName       = "least_request_experimental"
	RingHashName           = "ring_hash_experimental"
	WeightedRoundRobinName = "weighted_round_robin"
	OutlierDetectionName   = "outlier_detection_experimental"
	EtcdName               = "etcd"           // ours: which instances a call may go to
	WeightedName           = "etcd_weighted"  // ours: by the endpoints' static weights
	PeakEwmaName           = "etcd_peak_ewma" // ours: by latency times calls under way
)

// gRPC's bounds and defaults. It refuses what is beyond the bounds, or silently changes it.
const (
	MinChoiceCount      = 2
	MaxChoiceCount      = 10
	DefaultMinRingSize  = 1024
	DefaultMaxRingSize  = 4096
	MaxRingSize         = 8 << 20
	MaxPercent          = 100
	DefaultBaseEjection = Duration(30 * time.Second)
	minWeightUpdate     = Duration(100 * time.Millisecond)
	maxHeader           = 256
)

const requestHashHeaderField = "requestHashHeader"

// Picking are the policies that proto files name, the default first, and what their configs have that is not said there.
var Picking = []struct {
	Proto, Name string
	Given       map[string]any
}{
	{"round_robin", RoundRobinName, nil},
	{"pick_first", PickFirstName, nil},
	{"least_request", LeastRequestName, nil},
	{"ring_hash", RingHashName, map[string]any{requestHashHeaderField: AffinityHeader}},
	{"weighted", WeightedName, nil},
	{"peak_ewma", PeakEwmaName, nil},
}

// MinInterval is the least interval of outlier detection. It is our bound, not gRPC's: in each interval
// every connection goes through all endpoints, and with an interval of zero that takes a whole core.
const MinInterval = Duration(100 * time.Millisecond)

// Policy is an entry in a list of policies.
type Policy struct {
	Name string
	// Config is a pointer to one of the types below or to Etcd. It is a json.RawMessage for a policy that
	// is not described here, which only [ParseEtcd] accepts.
	Config any
}

// MarshalJSON implements [json.Marshaler].
func (p Policy) MarshalJSON() ([]byte, error) { return marshal(map[string]any{p.Name: p.Config}) }

// ConfigJSON returns the policy's own config.
func (p Policy) ConfigJSON() (json.RawMessage, error) { return marshal(p.Config) }

// children returns the list of policies below, nil if the policy has none.
func (p Policy) children() []Policy {
	switch c := p.Config.(type) {
	case *Etcd:
		return c.ChildPolicy
	case *OutlierDetection:
		return c.ChildPolicy
	}
	return nil
}

// Etcd returns the config of the policy "etcd", at which p may be or which may stand below it, nil if there is none.
func (p Policy) Etcd() *Etcd {
	if detection, ok := p.Config.(*OutlierDetection); ok {
		p = detection.ChildPolicy[0]
	}
	etcd, _ := p.Config.(*Etcd)
	return etcd
}

// Bare is the config of policies that have no fields: round_robin, etcd_weighted and etcd_peak_ewma.
type Bare struct{}

// PickFirst is the config of pick_first.
type PickFirst struct {
	ShuffleAddressList bool `json:"shuffleAddressList,omitempty"`
}

// LeastRequest is the config of least_request_experimental.
type LeastRequest struct {
	ChoiceCount uint32 `json:"choiceCount,omitempty"`
}

// RingHash is the config of ring_hash_experimental.
type RingHash struct {
	MinRingSize uint64 `json:"minRingSize,omitempty"`
	MaxRingSize uint64 `json:"maxRingSize,omitempty"`
	// RequestHashHeader is required: without it gRPC fails all calls.
	RequestHashHeader string `json:"requestHashHeader"`
}

// WeightedRoundRobin is the config of weighted_round_robin, which goes by the load that endpoints
// report.
type WeightedRoundRobin struct {
	EnableOOBLoadReport     *bool     `json:"enableOobLoadReport,omitempty"`
	OOBReportingPeriod      *Duration `json:"oobReportingPeriod,omitempty"`
	BlackoutPeriod          *Duration `json:"blackoutPeriod,omitempty"`
	WeightExpirationPeriod  *Duration `json:"weightExpirationPeriod,omitempty"`
	WeightUpdatePeriod      *Duration `json:"weightUpdatePeriod,omitempty"`
	ErrorUtilizationPenalty *float64  `json:"errorUtilizationPenalty,omitempty"`
}

// OutlierDetection is the config of outlier_detection_experimental, which leaves failing endpoints out.
type OutlierDetection struct {
	Interval           *Duration            `json:"interval,omitempty"`
	BaseEjectionTime   *Duration            `json:"baseEjectionTime,omitempty"`
	MaxEjectionTime    *Duration            `json:"maxEjectionTime,omitempty"`
	MaxEjectionPercent *uint32              `json:"maxEjectionPercent,omitempty"`
	SuccessRate        *SuccessRateEjection `json:"successRateEjection,omitempty"`
	FailurePercentage  *FailureEjection     `json:"failurePercentageEjection,omitempty"`
	// ChildPolicy is required: gRPC crashes without it.
	ChildPolicy []Policy `json:"childPolicy"`
}

// WithDefaults returns c with gRPC's defaults where nothing is said, see
// https://github.com/grpc/proposal/blob/master/A50-xds-outlier-detection.md.
func (c OutlierDetection) WithDefaults() OutlierDetection {
	orElse(&c.Interval, Duration(10*time.Second))
	orElse(&c.BaseEjectionTime, DefaultBaseEjection)
	orElse(&c.MaxEjectionTime, max(Duration(300*time.Second), *c.BaseEjectionTime))
	orElse(&c.MaxEjectionPercent, 10)
	if c.SuccessRate != nil {
		s := *c.SuccessRate
		orElse(&s.StdevFactor, 1900)
		orElse(&s.EnforcementPercentage, 100)
		orElse(&s.MinimumHosts, 5)
		orElse(&s.RequestVolume, 100)
		c.SuccessRate = &s
	}
	if c.FailurePercentage != nil {
		f := *c.FailurePercentage
		orElse(&f.Threshold, 85)
		orElse(&f.EnforcementPercentage, 100)
		orElse(&f.MinimumHosts, 5)
		orElse(&f.RequestVolume, 50)
		c.FailurePercentage = &f
	}
	return c
}

// orElse sets what is not set.
func orElse[T any](at **T, byDefault T) {
	if *at == nil {
		*at = &byDefault
	}
}

// SuccessRateEjection ejects endpoints that succeed less often than the others.
type SuccessRateEjection struct {
	StdevFactor           *uint32 `json:"stdevFactor,omitempty"`
	EnforcementPercentage *uint32 `json:"enforcementPercentage,omitempty"`
	MinimumHosts          *uint32 `json:"minimumHosts,omitempty"`
	RequestVolume         *uint32 `json:"requestVolume,omitempty"`
}

// FailureEjection ejects endpoints that fail more often than a threshold.
type FailureEjection struct {
	Threshold             *uint32 `json:"threshold,omitempty"`
	EnforcementPercentage *uint32 `json:"enforcementPercentage,omitempty"`
	MinimumHosts          *uint32 `json:"minimumHosts,omitempty"`
	RequestVolume         *uint32 `json:"requestVolume,omitempty"`
}

// policyRule says how a policy's config is read, and where the policy may stand.
type policyRule struct {
	read  func(v value) (any, error)
	below []string // the parents that it may have
	from  string   // the package that registers it, if a binary may lack that
}

// top is the parent of the policies at the top of a config.
const top = ""

// policyRules holds every policy that a config may name. init fills it, because policies with others
// below them refer to it.
var policyRules map[string]policyRule

func init() {
	leaf := []string{top, EtcdName, OutlierDetectionName}
	bare := fields[Bare]{}
	policyRules = map[string]policyRule{
		RoundRobinName: {read: configReader(bare, nil), below: leaf},
		// Outlier detection has no effect on pick_first, which takes no part in its health reports.
		PickFirstName:          {read: configReader(pickFirstFields, nil), below: []string{top, EtcdName}},
		LeastRequestName:       {read: configReader(leastRequestFields, nil), below: leaf, from: "google.golang.org/grpc/balancer/leastrequest"},
		RingHashName:           {read: configReader(ringHashFields, (*RingHash).check, requestHashHeaderField), below: leaf, from: "google.golang.org/grpc/balancer/ringhash"},
		WeightedRoundRobinName: {read: configReader(weightedRoundRobinFields, nil), below: leaf, from: "google.golang.org/grpc/balancer/weightedroundrobin"},
		WeightedName:           {read: configReader(bare, nil), below: leaf},
		PeakEwmaName:           {read: configReader(bare, nil), below: leaf},
		OutlierDetectionName: {read: configReader(outlierFields, (*OutlierDetection).check, childField), below: []string{top},
			from: "github.com/etcdrpc/protoc-gen-go-etcd/outlierdetection"},
		EtcdName: {read: configReader(etcdFields, (*Etcd).check), below: []string{top, OutlierDetectionName}},
	}
}

// configReader returns a function that reads an object by a table of its fields, and then checks it as a
// whole.
func configReader[T any](table fields[T], check func(*T) error, required ...string) func(v value) (any, error) {
	return func(v value) (any, error) {
		c, err := readObject(v, table, required...)
		if check != nil && (err == nil || v.proto) {
			err = also(err, check(&c))
		}
		return &c, err
	}
}

var pickFirstFields = fields[PickFirst]{
	"shuffleAddressList": func(c *PickFirst, v value) error { return assign(&c.ShuffleAddressList)(v.bool()) },
}

var leastRequestFields = fields[LeastRequest]{
	"choiceCount": func(c *LeastRequest, v value) error {
		return assign(&c.ChoiceCount)(number[uint32](v, MinChoiceCount, MaxChoiceCount))
	},
}

var ringHashFields = fields[RingHash]{
	"minRingSize":          func(c *RingHash, v value) error { return assign(&c.MinRingSize)(number[uint64](v, 1, MaxRingSize)) },
	"maxRingSize":          func(c *RingHash, v value) error { return assign(&c.MaxRingSize)(number[uint64](v, 1, MaxRingSize)) },
	requestHashHeaderField: func(c *RingHash, v value) error { return assign(&c.RequestHashHeader)(readHeader(v)) },
}

var weightedRoundRobinFields = fields[WeightedRoundRobin]{
	"enableOobLoadReport": func(c *WeightedRoundRobin, v value) error { return set(&c.EnableOOBLoadReport)(v.bool()) },
	"oobReportingPeriod": func(c *WeightedRoundRobin, v value) error {
		return set(&c.OOBReportingPeriod)(v.duration(minWeightUpdate))
	},
	"blackoutPeriod": func(c *WeightedRoundRobin, v value) error { return set(&c.BlackoutPeriod)(v.duration(0)) },
	"weightExpirationPeriod": func(c *WeightedRoundRobin, v value) error {
		return set(&c.WeightExpirationPeriod)(v.duration(anyPositive))
	},
	"weightUpdatePeriod": func(c *WeightedRoundRobin, v value) error {
		return set(&c.WeightUpdatePeriod)(v.duration(minWeightUpdate))
	},
	"errorUtilizationPenalty": func(c *WeightedRoundRobin, v value) error {
		return set(&c.ErrorUtilizationPenalty)(v.notNegative())
	},
}

var outlierFields = fields[OutlierDetection]{
	"interval":           func(c *OutlierDetection, v value) error { return set(&c.Interval)(v.duration(MinInterval)) },
	"baseEjectionTime":   func(c *OutlierDetection, v value) error { return set(&c.BaseEjectionTime)(v.duration(0)) },
	"maxEjectionTime":    func(c *OutlierDetection, v value) error { return set(&c.MaxEjectionTime)(v.duration(0)) },
	"maxEjectionPercent": func(c *OutlierDetection, v value) error { return set(&c.MaxEjectionPercent)(v.percent()) },
	"successRateEjection": func(c *OutlierDetection, v value) error {
		return set(&c.SuccessRate)(readObject(v, successRateFields))
	},
	"failurePercentageEjection": func(c *OutlierDetection, v value) error {
		return set(&c.FailurePercentage)(readObject(v, failureFields))
	},
	childField: func(c *OutlierDetection, v value) error {
		return assign(&c.ChildPolicy)(readPolicies(v, OutlierDetectionName))
	},
}

var successRateFields = fields[SuccessRateEjection]{
	"stdevFactor":           func(c *SuccessRateEjection, v value) error { return set(&c.StdevFactor)(v.count()) },
	"enforcementPercentage": func(c *SuccessRateEjection, v value) error { return set(&c.EnforcementPercentage)(v.percent()) },
	"minimumHosts":          func(c *SuccessRateEjection, v value) error { return set(&c.MinimumHosts)(v.count()) },
	"requestVolume":         func(c *SuccessRateEjection, v value) error { return set(&c.RequestVolume)(v.count()) },
}

var failureFields = fields[FailureEjection]{
	"threshold":             func(c *FailureEjection, v value) error { return set(&c.Threshold)(v.percent()) },
	"enforcementPercentage": func(c *FailureEjection, v value) error { return set(&c.EnforcementPercentage)(v.enforcement()) },
	"minimumHosts":          func(c *FailureEjection, v value) error { return set(&c.MinimumHosts)(v.count()) },
	"requestVolume":         func(c *FailureEjection, v value) error { return set(&c.RequestVolume)(v.count()) },
}

func (v value) percent() (uint32, error) { return number[uint32](v, 0, MaxPercent) }
func (v value) count() (uint32, error)   { return number[uint32](v, 0, math.MaxUint32) }

// enforcement reads the percentage of a failure ejection, which does nothing at 0. A proto file has no use for that.
func (v value) enforcement() (uint32, error) {
	least := uint32(0)
	if v.proto {
		least = 1
	}
	return number(v, least, MaxPercent)
}

// readHeader reads the name of the request metadata that gRPC hashes, and returns it in lower case, as
// it is sent.
func readHeader(v value) (string, error) {
	text, err := v.text()
	if err != nil {
		return "", err
	}
	header := strings.ToLower(text)
	if v.proto && header != text {
		return "", v.wants(WantHeader + ", in lower case")
	}
	if !ValidHeader(header) {
		return "", v.wants(WantHeader)
	}
	return header, nil
}

// WantHeader says what ValidHeader accepts.
const WantHeader = `the name of a header, of letters, digits, ".", "-" and "_", that does not end in "-bin"`

// ValidHeader reports whether a name, in lower case, can be the name of request metadata whose values are text.
func ValidHeader(name string) bool {
	const legal = "abcdefghijklmnopqrstuvwxyz0123456789.-_"
	return name != "" && len(name) <= maxHeader && strings.Trim(name, legal) == "" && !strings.HasSuffix(name, "-bin")
}

func (c *RingHash) check() error {
	least, most := c.MinRingSize, c.MaxRingSize
	if least == 0 {
		least = DefaultMinRingSize
	}
	if most == 0 {
		most = DefaultMaxRingSize
	}
	if least > most {
		return in("minRingSize", fmt.Errorf("is %d, above maxRingSize, which is %d; left out, they are %d and %d",
			least, most, DefaultMinRingSize, DefaultMaxRingSize))
	}
	return nil
}

func (c *OutlierDetection) check() error {
	base := DefaultBaseEjection
	if c.BaseEjectionTime != nil {
		base = *c.BaseEjectionTime
	}
	if c.MaxEjectionTime != nil && *c.MaxEjectionTime < base {
		return in("maxEjectionTime", fmt.Errorf("is %v, below baseEjectionTime, which is %v; left out, that is %v",
			*c.MaxEjectionTime, base, DefaultBaseEjection))
	}
	if len(c.ChildPolicy) == 0 {
		return nil // which is noted
	}
	for i, p := range c.ChildPolicy[0].children() { // there are some below "etcd" alone
		if p.Name == PickFirstName {
			return in(fmt.Sprintf("%s[0].%s.%[1]s[%[3]d]", childField, EtcdName, i), misplaced(p.Name, OutlierDetectionName))
		}
	}
	return nil
}

// readPolicies reads a list of policies below parent.
func readPolicies(v value, parent string) ([]Policy, error) {
	var policies []Policy
	err := v.elements("policies", func(v value) error {
		p, err := readEntry(v, parent)
		if err == nil && p.Name == EtcdName && len(policies) > 0 {
			err = fmt.Errorf("the policy %q must be the first of the list", EtcdName)
		}
		policies = append(policies, p)
		return err
	})
	return policies, err
}

// readEntry reads an object whose one field is a policy's name.
func readEntry(v value, parent string) (Policy, error) {
	var p Policy
	n := 0
	err := v.members(func(name string, v value) (err error) {
		if n++; n > 1 {
			return errors.New("want one policy an entry, not more")
		}
		p, err = readPolicy(name, v, parent)
		return err
	})
	if err == nil && n == 0 {
		err = errors.New("the entry names no policy")
	}
	return p, err
}

// readPolicy reads the config of a policy below parent.
func readPolicy(name string, v value, parent string) (Policy, error) {
	rule, ok := policyRules[name]
	switch {
	case !ok && v.trusted && !isDescribed(name):
		return Policy{name, json.RawMessage(v.raw)}, nil
	case !ok:
		return Policy{}, fmt.Errorf("no policy is named %.80q: want %s", name, strings.Join(slices.Sorted(maps.Keys(policyRules)), ", "))
	case !slices.Contains(rule.below, parent):
		return Policy{}, misplaced(name, parent)
	}
	config, err := rule.read(v)
	return Policy{name, config}, in(name, err)
}

// misplaced says that a policy must not stand below another and, if it may stand above it, how to write that.
func misplaced(name, parent string) error {
	if slices.Contains(policyRules[parent].below, name) {
		return fmt.Errorf(`the policy %q must not stand below %q but above it: {%[1]q: {..., %[3]q: [{%[2]q: {...}}]}}`, name, parent, childField)
	}
	return fmt.Errorf("the policy %q must not stand below %q", name, parent)
}

// isDescribed reports whether name is a described policy's, whatever its case: gRPC can be told to ignore
// the case.
func isDescribed(name string) bool {
	for known := range policyRules {
		if strings.EqualFold(name, known) {
			return true
		}
	}
	return false
}

// ReadPolicy reads a policy as a proto file gives it: its config in protobuf's JSON. It returns all that is wrong with it.
func ReadPolicy(name string, config map[string]any) (Policy, []*Fault) {
	text := []byte("{}")
	if len(config) > 0 {
		var err error
		if text, err = marshal(config); err != nil {
			return Policy{}, faultsIn(err)
		}
	}
	read, err := policyRules[name].read(value{raw: text, proto: true})
	return Policy{name, read}, faultsIn(err)
}
