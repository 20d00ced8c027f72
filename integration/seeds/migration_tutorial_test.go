package seeds

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// tutorialFleet is a fleet of the tutorial's kind that is replaced step by step, with its callers.
type tutorialFleet struct {
	*world
	members []*member
	callers []*caller
}

// member is a place in the fleet, which one server after another takes.
type member struct {
	name, version string
	weight        int
	leave, stop   func() // leave takes the present server out of etcd; stop ends it
}

// caller is a load whose shares are judged. weigh returns the weight of a member, 0 if it gets no calls.
type caller struct {
	*load
	weigh func(*member) int
}

// weighted is the service config for load_balancing: {weighted: {}}.
const weighted = `{"loadBalancingConfig":[{"etcd_weighted":{}}]}`

// fleetWeights are the weights of the servers of each version.
var fleetWeights = []int{1, 3}

func newTutorialFleet(w *world) *tutorialFleet {
	f := &tutorialFleet{world: w}
	for _, version := range []string{"v1", "v2"} {
		for _, weight := range fleetWeights {
			f.members = append(f.members, &member{name: fmt.Sprintf("%s/%d", version, weight), version: version, weight: weight})
		}
	}
	return f
}

// call adds a caller.
func (f *tutorialFleet) call(name string, conn grpc.ClientConnInterface, weigh func(*member) int) *caller {
	c := &caller{f.load(name, conn), weigh}
	f.callers = append(f.callers, c)
	return c
}

// retire stops callers.
func (f *tutorialFleet) retire(callers ...*caller) {
	for _, c := range callers {
		c.stop()
		f.t.Logf("%s: %d calls, %d failed", c.name, c.calls, c.failures)
	}
	f.callers = slices.DeleteFunc(f.callers, func(c *caller) bool { return slices.Contains(callers, c) })
}

// judge compares the shares of all callers with the weights. A server has the name of its member.
func (f *tutorialFleet) judge(step string) {
	f.t.Helper()
	for _, c := range f.callers {
		want := map[string]int{}
		for _, m := range f.members {
			if weight := c.weigh(m); weight > 0 {
				want[m.name] = weight
			}
		}
		c.shares(step, want)
	}
}

// roll replaces the servers one by one, and judges the shares after each.
func (f *tutorialFleet) roll(step string, start func(m *member, name string) (leave, stop func())) {
	f.t.Helper()
	for _, m := range f.members {
		_, place, _ := strings.Cut(m.name, " ")
		m.name = step + " " + place
		leave, stop := start(m, m.name)
		m.leave()
		f.judge(step)
		m.stop()
		m.leave, m.stop = leave, stop
	}
}

// startTheirs starts the tutorial's own servers.
func (f *tutorialFleet) startTheirs() {
	f.t.Helper()
	for _, m := range f.members {
		m.name = "theirs " + m.name
		s := f.serve(m.name)
		m.leave, m.stop = f.tutorialRegister(tutorialServer{"user", s.addr, m.version, int64(m.weight)}), s.stop
	}
}

// ours returns a function that starts a server of ours, published as described.
func (f *tutorialFleet) ours(desc func(m *member) *runtime.ServiceDesc) func(*member, string) (leave, stop func()) {
	return func(m *member, name string) (leave, stop func()) {
		s := f.publish(name, desc(m), runtime.WithVersion(m.version), runtime.WithWeight(uint32(m.weight)))
		return s.stop, func() {}
	}
}

// oursBeside returns a function that starts such a server, which is also registered as old describes until it leaves.
func (f *tutorialFleet) oursBeside(desc, old func(m *member) *runtime.ServiceDesc) func(*member, string) (leave, stop func()) {
	return func(m *member, name string) (leave, stop func()) {
		s := f.publish(name, desc(m), runtime.WithVersion(m.version), runtime.WithWeight(uint32(m.weight)))
		its := runtime.Endpoint{Addr: s.addr, Version: m.version, Weight: uint32(m.weight)}
		beside, err := f.newRegistry().Register(bounded(f.t), old(m).Key, its, runtime.WithLayouts(old(m).Layout))
		must(f.t, err)
		return func() {
			if err := beside.Close(bounded(f.t)); err != nil {
				f.t.Error(err)
			}
			s.stop()
		}, func() {}
	}
}

// split makes callers of a key send a fifth of their calls to v1. Within a version, weights count.
func (f *tutorialFleet) split(key string) {
	f.t.Helper()
	const config = `{"loadBalancingConfig":[{"etcd":{"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":4}],` +
		`"childPolicy":[{"etcd_weighted":{}}]}}]}`
	must(f.t, f.registry.SetServiceConfig(bounded(f.t), key, config))
}

// always describes all members alike.
func always(desc *runtime.ServiceDesc) func(*member) *runtime.ServiceDesc {
	return func(*member) *runtime.ServiceDesc { return desc }
}

// How callers weigh members: all by weight, those of one version, all by weight and split.
func byWeight(m *member) int { return m.weight }

func ofVersion(version string) func(*member) int {
	return func(m *member) int {
		if m.version != version {
			return 0
		}
		return m.weight
	}
}

func bySplit(m *member) int { return m.weight * map[string]int{"v1": 1, "v2": 4}[m.version] }

// A fleet of the tutorial's kind, with the version in its keys, moves under load: our clients read what is there, our servers
// replace theirs in their layout, the old client goes, and the fleet moves to a key of its own, where a client finds both
// versions. Every client honours the weights throughout.
func TestMigration_FromTutorialUnderLoad(t *testing.T) {
	f := newTutorialFleet(newWorld(t))
	versioned := func(m *member) *runtime.ServiceDesc {
		return &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/user/" + m.version, Layout: tutorialLayout, ServiceConfig: weighted}
	}
	user := &runtime.ServiceDesc{Name: "basic.Greeter", Key: "acme/user", ServiceConfig: weighted}

	f.startTheirs()
	old := f.call("the tutorial's client", f.tutorialConn(), byWeight)
	f.judge("before")
	v1 := f.call("our client of v1", f.conn(versioned(f.members[0])), ofVersion("v1"))
	v2 := f.call("our client of v2", f.conn(versioned(f.members[2])), ofVersion("v2"))
	f.judge("our clients")
	f.roll("their-layout", f.ours(versioned))
	f.retire(old)
	f.roll("both-keys", f.oursBeside(always(user), versioned))
	both := f.call("our client of both versions", f.conn(user), byWeight)
	f.judge("both-keys")
	f.retire(v1, v2)
	f.split(user.Key)
	both.weigh = bySplit
	f.judge("split")
	f.roll("ours", f.ours(always(user)))
	if left := f.entries("/user/"); len(left) > 0 {
		t.Errorf("left are %+v", left)
	}
	f.retire(both)
}
