package schedule

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

const (
	// Length is how long faults go on.
	Length = time.Minute

	// warmUp is how long a world is left alone at first.
	warmUp = 3 * time.Second
	// fewest and most are how many steps a schedule has.
	fewest, most = 10, 18
)

// New returns the schedule of a seed: the same for the same seed.
func New(seed uint64) Schedule {
	r := rand.New(rand.NewPCG(seed, 0))
	s := Schedule{Seed: seed, Members: 1 + 2*r.IntN(2), Auth: r.IntN(3) == 0}
	for range 3 + r.IntN(2) {
		s.Servers = append(s.Servers, newServer(r))
	}
	for range 2 + r.IntN(2) {
		s.Callers = append(s.Callers, newCaller(r))
	}
	for range r.IntN(2) {
		s.Writers = append(s.Writers, Writer{pick(r, writerLayouts)})
	}
	s.Steps = draw(r, s)
	return s
}

var (
	versions      = []string{"", "v1", "v2"}
	zones         = []string{"", "east", "west"}
	writerLayouts = []string{"plain", "endpoint_json", "go_zero", "kratos", "kitex"}
	layouts       = [][]string{nil, nil, nil, nil, {"plain"}, {"kratos"}, {"kitex"}, {"go_zero"}, {"endpoint_json", "go_zero"}}
)

func newServer(r *rand.Rand) Server {
	s := Server{
		Mode:    pick(r, []Mode{Serve, Announce, Register}),
		Layouts: pick(r, layouts),
		Version: pick(r, versions),
		Zone:    pick(r, zones),
		Weight:  uint32(r.IntN(4)),
		Newer:   r.IntN(3) == 0,
		Both:    r.IntN(3) == 0,
	}
	s.Named = s.Layouts == nil && r.IntN(2) == 0 // the other layouts have the address or the lease for an id, or several do
	return s
}

func newCaller(r *rand.Rand) Caller {
	c := Caller{Zone: pick(r, zones)}
	if r.IntN(3) == 0 {
		c.Policy = pick(r, policies)
	}
	if r.IntN(4) == 0 {
		c.Subset = 1 + r.IntN(3)
	}
	return c
}

// draw chooses the steps: as many as there are to be, of those that do not get in each other's way.
func draw(r *rand.Rand, s Schedule) []Step {
	var total int
	for _, k := range catalog {
		total += k.share
	}
	// Half of the steps gather around a few moments, for it is combinations that hurt.
	moments := []time.Duration{within(r, Length-warmUp), within(r, Length-warmUp), within(r, Length-warmUp)}
	var steps []Step
	for n := fewest + r.IntN(most-fewest+1); len(steps) < n; {
		k := catalog[0]
		for i, left := 0, r.IntN(total); left >= 0; i++ {
			k = catalog[i]
			left -= k.share
		}
		step := Step{Kind: k.kind, At: warmUp + within(r, Length-warmUp)}
		if r.IntN(2) == 0 {
			step.At = min(warmUp+pick(r, moments)+within(r, 2*time.Second), Length)
		}
		if k.longest > 0 {
			// Short ones as often as long ones: what matters happens around bounds of 1 s, 5 s and a lease.
			step.For = min(within(r, k.longest), within(r, k.longest)) + 100*time.Millisecond
		}
		if k.choose(r, s, &step) && !slices.ContainsFunc(steps, func(other Step) bool { return clash(s, step, other) }) {
			steps = append(steps, step)
		}
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return steps
}

// clash reports whether two steps would have a hold of the same thing at the same time.
func clash(s Schedule, a, b Step) bool {
	if a.At+a.For < b.At || b.At+b.For < a.At {
		return false
	}
	of := find(b.Kind).takes(s, b)
	return slices.ContainsFunc(find(a.Kind).takes(s, a), func(t string) bool { return slices.Contains(of, t) })
}

func within(r *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(d/time.Millisecond))) * time.Millisecond
}

func pick[E any](r *rand.Rand, from []E) E { return from[r.IntN(len(from))] }

// The following choose what a step is about.

func always(*rand.Rand, Schedule, *Step) bool { return true }

func ofThree(_ *rand.Rand, s Schedule, _ *Step) bool { return s.Members == 3 }

func withAuth(_ *rand.Rand, s Schedule, _ *Step) bool { return s.Auth }

func aMember(r *rand.Rand, s Schedule, step *Step) bool {
	step.Who = r.IntN(s.Members)
	return true
}

func aMemberOfThree(r *rand.Rand, s Schedule, step *Step) bool {
	return aMember(r, s, step) && s.Members == 3
}

// aProcess chooses the first server as often as all others together, for it is what befalls one process that combines.
func aProcess(r *rand.Rand, s Schedule, step *Step) bool {
	if step.Who = 0; r.IntN(2) == 0 {
		step.Who = r.IntN(s.Processes())
	}
	return true
}

func aServer(r *rand.Rand, s Schedule, step *Step) bool {
	if step.Who = 0; r.IntN(2) == 0 {
		step.Who = r.IntN(len(s.Servers))
	}
	return true
}

func aCaller(r *rand.Rand, s Schedule, step *Step) bool {
	step.Who = len(s.Servers) + r.IntN(len(s.Callers))
	return true
}

func aWriter(r *rand.Rand, s Schedule, step *Step) bool {
	if len(s.Writers) == 0 {
		return false
	}
	step.Who = len(s.Servers) + len(s.Callers) + r.IntN(len(s.Writers))
	return true
}

// aPair chooses a caller and what it calls.
func aPair(r *rand.Rand, s Schedule, step *Step) bool {
	if len(s.Writers) == 0 || r.IntN(4) > 0 {
		aServer(r, s, step)
	} else {
		aWriter(r, s, step)
	}
	step.Whom = step.Who
	return aCaller(r, s, step)
}

func aRight(r *rand.Rand, s Schedule, step *Step) bool {
	step.Text = pick(r, []string{"read", "write", "read the config"})
	return aProcess(r, s, step) && s.Auth
}

// The methods that a server's runtime calls, a caller's, and a writer.
var (
	serverMethods = []string{"Txn", "Txn", "LeaseGrant", "LeaseRevoke", "LeaseKeepAlive", "LeaseTimeToLive", "write", "any"}
	callerMethods = []string{"Range", "any"}
	writerMethods = []string{"Put", "LeaseGrant", "LeaseKeepAlive", "any"}
)

func aMethod(r *rand.Rand, s Schedule, step *Step) bool {
	aProcess(r, s, step)
	switch servers, callers := len(s.Servers), len(s.Callers); {
	case step.Who < servers:
		step.Text = pick(r, serverMethods)
	case step.Who < servers+callers:
		step.Text = pick(r, callerMethods)
	default:
		step.Text = pick(r, writerMethods)
	}
	return true
}

func lateMethod(r *rand.Rand, s Schedule, step *Step) bool {
	step.N = 100 + r.IntN(8000)
	return aMethod(r, s, step)
}

func aConfig(r *rand.Rand, s Schedule, step *Step) bool {
	if r.IntN(4) > 0 {
		step.Text = pick(r, policies)
		return true
	}
	i := r.IntN(len(s.Servers))
	step.Text = fmt.Sprintf(`{"loadBalancingConfig":[{"etcd":{"drain":[%q]}}]}`, s.Instance(i))
	return true
}

func oneOf(texts []string) func(*rand.Rand, Schedule, *Step) bool {
	return func(r *rand.Rand, _ Schedule, step *Step) bool {
		step.Text = pick(r, texts)
		return true
	}
}

// The following say what a step has a hold of.

func nothing(Schedule, Step) []string { return nil }

func whole(what string) func(Schedule, Step) []string {
	return func(Schedule, Step) []string { return []string{what} }
}

// members has a hold of all that the step touches: the quorum of all members.
func members(_ Schedule, s Step) []string {
	if s.Kind == QuorumLost {
		return []string{"member 0", "member 1", "member 2"}
	}
	return []string{fmt.Sprintf("member %d", s.Who)}
}

func onProcess(what string) func(Schedule, Step) []string {
	return func(_ Schedule, s Step) []string { return []string{fmt.Sprintf("%s of %d", what, s.Who)} }
}

func onPair(_ Schedule, s Step) []string {
	return []string{fmt.Sprintf("link of %d and %d", s.Who, s.Whom)}
}

// policies are service configs that callers have or operators put.
var policies = []string{
	`{"loadBalancingConfig":[{"round_robin":{}}]}`,
	`{"loadBalancingConfig":[{"etcd_weighted":{}}]}`,
	`{"loadBalancingConfig":[{"least_request_experimental":{"choiceCount":2}}]}`,
	`{"loadBalancingConfig":[{"pick_first":{}}]}`,
	`{"loadBalancingConfig":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"preferZone":true}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"preferZone":true,"childPolicy":[{"etcd_weighted":{}}]}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"split":[{"match":{"version":"v2"},"weight":20},{"match":{"version":"v1"},"weight":80}]}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"split":[{"match":{"version":"v2"},"weight":100},{"match":{"version":""},"weight":0}],"preferZone":true}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"split":[{"match":{"zone":"east"},"weight":1}],"childPolicy":[{"least_request_experimental":{}}]}}]}`,
	`{"methodConfig":[{"name":[{}],"timeout":"1.500s"}]}`,
	`{"methodConfig":[{"name":[{}],"waitForReady":true,"timeout":"2s"}],"loadBalancingConfig":[{"round_robin":{}}]}`,
}

// badConfigs are what clients refuse.
var badConfigs = []string{
	``, `{`, `null`, `[]`, `{"loadBalancingConfig":[{"no_such_policy":{}}]}`,
	`{"loadBalancingConfig":[{"outlier_detection_experimental":{}}]}`, `{"loadBalancingConfig":[{"etcd":null}]}`,
	`{"loadBalancingConfig":[{"ring_hash_experimental":{}}]}`, `{"methodConfig":[{"name":[{}],"maxResponseMessageBytes":67108864}]}`,
	`{"loadBalancingConfig":[{"etcd":{"split":[]}}],"surplus":1}`,
}

// badEntries are values that no reader may dial.
var badEntries = []string{
	``, `{`, `[]`, `null`, `unix:/x`, `dns:///x`, "10.9.0.1:80\n10.9.0.2:80", `{"Addr":""}`, `{"Addr":"10.9.0.1:99999"}`,
	`{"Addr":"unix:/x"}`, `{"name":"shop","endpoints":[]}`, `{"network":"unix","address":"/x"}`, strings.Repeat("x", 5000),
}

// neighbours are keys that continue the service's without being its.
var neighbours = []string{"acme/shop2/10.9.1.1:80", "acme/shop-admin/10.9.1.2:80", "acme/shopx", "acme/shop", "acme/sho/p"}

// Bad reports whether clients refuse a live config.
func Bad(config string) bool { return slices.Contains(badConfigs, config) }
