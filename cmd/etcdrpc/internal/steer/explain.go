// Package steer changes which instances of a service are called, and explains which are: by the live policy, and as clients
// go by it.
package steer

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Caller is whose calls are explained.
type Caller = serviceconfig.Caller

// Explanation says where the calls of a client go.
type Explanation struct {
	Key string `json:"key"`
	Caller
	Policy    string      `json:"policy"`           // that picks among the instances of a set
	Leader    string      `json:"leader,omitempty"` // the instance that has the calls for the leader, where that is known
	Instances []Explained `json:"instances"`
	Notes     []string    `json:"notes"`

	Service *survey.Service `json:"-"` // with the instances that clients call
	general int             // the notes from here on hold whatever instances there are
	Empty   []int           `json:"-"` // the groups of the split without an instance that may be called
	etcd    *serviceconfig.Etcd
	placed  *plan.Placement // nil: there are no lanes
}

// Explained is one instance with its share of the calls, in percent.
type Explained struct {
	Instance string  `json:"instance"`
	Addr     string  `json:"addr"`
	Share    float64 `json:"share"`
	Why      string  `json:"why"`

	Lanes []string `json:"-"`
	Entry string   `json:"-"` // the key of its entry
}

// Explain goes through the passes that a client goes through, in the same order, with every instance ready.
func Explain(s *survey.Service, from Caller) (*Explanation, error) {
	config, err := s.Live()
	switch {
	case s.Config == nil:
		return nil, ErrNoPolicy
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	case len(config.LoadBalancing) == 0:
		return nil, errors.New("the live policy does not say how to balance: clients go by what their code was generated with")
	}
	x := &Explanation{Key: s.Key, Caller: from, Service: s.Merged(), Notes: []string{}}
	x.setPolicy(config.LoadBalancing[0])
	x.placed = x.Service.Placement(x.etcd)
	all := make([]int, len(x.Service.Instances))
	for i := range all {
		all[i] = i
		of := &x.Service.Instances[i]
		x.Instances = append(x.Instances, Explained{Instance: of.Instance, Addr: of.Addr, Entry: of.Entry.Key})
		if x.placed != nil {
			x.Instances[i].Lanes = x.placed.Of[&of.Endpoint]
		}
	}
	set, why := x.lane(x.drain(all))
	x.split(x.method(set), why)
	x.general = len(x.Notes)
	x.qualify()
	x.addUncalled(s)
	return x, nil
}

// ByEntry returns what is explained, by the keys of the entries; nothing of nil.
func (x *Explanation) ByEntry() map[string]Explained {
	if x == nil {
		return nil
	}
	all := make(map[string]Explained, len(x.Instances))
	for _, i := range x.Instances {
		all[i.Entry] = i
	}
	return all
}

// setPolicy takes in a policy, and which one below it picks.
func (x *Explanation) setPolicy(policy serviceconfig.Policy) {
	if detection, ok := policy.Config.(*serviceconfig.OutlierDetection); ok {
		x.note("An instance that fails more often than the others has no calls for a while: the shares are those while none does.")
		policy = detection.ChildPolicy[0]
	}
	if x.etcd = policy.Etcd(); x.etcd == nil {
		x.etcd = &serviceconfig.Etcd{ChildPolicy: []serviceconfig.Policy{policy}}
	}
	x.Policy = x.etcd.ChildPolicy[0].Name
}

// qualify says when the shares are others.
func (x *Explanation) qualify() {
	x.Notes = append(x.Notes, x.etcd.Notes(x.Caller)...)
	if among := x.among(); among != "" {
		x.note("%s", among)
	}
}

// addUncalled adds the entries of the service that clients make no instance of.
func (x *Explanation) addUncalled(s *survey.Service) {
	called := x.Service.ByAddr()
	for _, i := range s.Instances {
		if why := i.WhyUncalled(called[i.Addr]); why != "" {
			x.Instances = append(x.Instances, Explained{Instance: i.Instance, Addr: i.Addr, Why: why, Entry: i.Entry.Key})
		}
	}
	slices.SortStableFunc(x.Instances, func(a, b Explained) int {
		return cmp.Or(survey.CompareNames(a.Instance, b.Instance), survey.CompareNames(a.Addr, b.Addr))
	})
}

func (x *Explanation) note(format string, args ...any) {
	x.Notes = append(x.Notes, fmt.Sprintf(format, args...))
}

// keep returns the instances of a set that pass, and says of the others why they do not.
func (x *Explanation) keep(set []int, pass func(i int) (ok bool, why string)) []int {
	var left []int
	for _, i := range set {
		ok, why := pass(i)
		if ok {
			left = append(left, i)
		} else if x.Instances[i].Why == "" {
			x.Instances[i].Why = why
		}
	}
	return left
}

func (x *Explanation) drain(set []int) []int {
	drained, followed := x.Service.Drain(x.etcd)
	if problem := followed.Problem(); problem != "" {
		x.note("The list to %s.", problem)
	}
	return x.keep(set, func(i int) (bool, string) { return !drained[x.Service.Instances[i].Addr], "is drained" })
}

// lane leaves the instances of the caller's lane, or of the base, and says so.
func (x *Explanation) lane(set []int) (left []int, why string) {
	if x.placed == nil {
		if x.Lane != "" {
			x.note("The live policy has no routes, so lanes make no difference.")
		}
		return set, ""
	}
	in := func(i int) bool { return slices.Contains(x.Instances[i].Lanes, x.Lane) }
	serves := func(i int) bool { return in(i) && x.serves(i) }
	strict := plan.NewConfig(x.etcd).Strict(x.Lane)
	switch {
	case x.Lane == "":
	case strict || slices.ContainsFunc(set, serves):
		left := x.keep(set, func(i int) (bool, string) { return in(i), "is not in the lane " + x.Lane })
		if len(left) == 0 {
			x.note("The calls fail: the lane %q is strict, and no instance of it may be called.", x.Lane)
		}
		return left, "in the lane " + x.Lane
	default:
		x.note("No instance that may be called is in the lane %q, so its calls go where those without a lane do.", x.Lane)
	}
	base := func(i int) bool { return x.placed.IsBase(&x.Service.Instances[i].Endpoint) }
	if !slices.ContainsFunc(set, base) {
		x.note("Every instance is in a lane, so the calls without one go to all.")
		return set, ""
	}
	left = x.keep(set, func(i int) (bool, string) {
		if lanes := x.Instances[i].Lanes; len(lanes) > 0 {
			return base(i), "is in a lane: " + fmt.Sprint(lanes)
		}
		return base(i), "is of no lane that clients make, and not of the base either"
	})
	return left, "in no lane"
}

// method leaves the instances that serve the caller's method.
func (x *Explanation) method(set []int) []int {
	return x.keep(set, func(i int) (bool, string) { return x.serves(i), "does not serve " + x.Method })
}

func (x *Explanation) serves(i int) bool {
	return x.Method == "" || x.Service.Instances[i].Serves(x.Method)
}

// split divides the calls among the groups, and shares each group's part out. why is why the instances of a set get calls where
// there is no split.
func (x *Explanation) split(set []int, why string) {
	splits := x.etcd.Split
	if len(splits) == 0 {
		x.share(set, 100, why)
		return
	}
	groups := make([][]int, len(splits)+1)
	config := plan.NewConfig(x.etcd)
	for _, i := range set {
		g := config.Group(&x.Service.Instances[i].Endpoint)
		groups[g] = append(groups[g], i)
	}
	weights := make([]float64, len(groups))
	total, used := 0.0, 0.0
	for g, group := range groups {
		if len(group) > 0 && g < len(splits) {
			weights[g] = float64(splits[g].Weight)
		}
		total += weights[g]
		used += float64(min(1, len(group)))
	}
	instead := ""
	if total > 0 {
		instead = ": the other groups have its share"
	}
	for g, group := range groups {
		why := "matches no group of the split"
		if g < len(splits) {
			why = fmt.Sprintf("in split[%d], of weight %d", g, splits[g].Weight)
		}
		switch {
		case len(group) == 0 && g < len(splits):
			x.Empty = append(x.Empty, g)
			x.note("split[%d] has no instance here%s.", g, instead)
		case total == 0:
			x.share(group, 100/max(1, used), why+"; no group with a weight has an instance")
		case weights[g] == 0:
			if n := len(group); g == len(splits) && n > 0 {
				x.note("%d of the instances match no group of the split, and get no calls.", n)
			}
			x.keep(group, func(int) (bool, string) { return false, why + ", while others have one" })
		default:
			x.share(group, 100*weights[g]/total, why)
		}
	}
}

// share shares a part of the calls out among the instances of a set that are in the client's zone or, if there are none, all.
func (x *Explanation) share(set []int, percent float64, why string) {
	near := func(i int) bool { return x.Service.Instances[i].Zone == x.Zone }
	if x.etcd.PreferZone && x.Zone != "" && slices.ContainsFunc(set, near) {
		set = x.keep(set, func(i int) (bool, string) { return near(i), "is in another zone" })
		if why != "" {
			why += ", "
		}
		why += "in the zone " + x.Zone
	}
	weight := func(i int) float64 {
		if x.Policy == serviceconfig.WeightedName || x.Policy == serviceconfig.RingHashName {
			return float64(max(1, x.Service.Instances[i].Weight))
		}
		return 1
	}
	total := 0.0
	for _, i := range set {
		total += weight(i)
	}
	for _, i := range set {
		x.Instances[i].Share, x.Instances[i].Why = percent*weight(i)/total, cmp.Or(why, "may be called")
	}
}

// among says how the shares within a set come about.
func (x *Explanation) among() string {
	switch x.Policy {
	case serviceconfig.PickFirstName:
		return "pick_first keeps each client to one instance of a set: the shares are those over many clients that shuffle."
	case serviceconfig.RingHashName:
		return "ring_hash picks by the affinity of a call: the shares are those over many keys."
	case serviceconfig.RoundRobinName, serviceconfig.WeightedName:
		return ""
	}
	return x.Policy + " picks by what it sees of the instances: the shares are those of instances that do equally well."
}

// Show writes the explanation.
func (x *Explanation) Show(out io.Writer, f output.Format) error {
	return output.Show(out, f, x, x.print)
}

func (x *Explanation) print(out io.Writer) {
	rows := make([][]string, len(x.Instances))
	for n, i := range x.Instances {
		rows[n] = []string{strconv.FormatFloat(i.Share, 'f', 1, 64) + " %", i.Instance, i.Addr, i.Why}
	}
	output.Table(out, []string{"SHARE", "INSTANCE", "ADDRESS", "WHY"}, rows)
	for _, note := range x.Notes {
		output.Sayf(out, "%s\n", note)
	}
}
