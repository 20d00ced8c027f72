package seeds

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// judgedCalls is how many calls the shares are judged by, at least, and judgedSlack by how many each server may be off
// the exact share of them: the two callers may have one call each under way at either end, which makes four, and
// a sequence that is spread evenly strays by as many at most. Smooth weighted round robin strays by one.
const judgedCalls, judgedSlack = 400, 8

// shares waits until calls are shared about as weights say, and then holds the next ones against the exact shares.
func (l *load) shares(step string, weights map[string]int) {
	l.w.t.Helper()
	var got map[string]int
	l.w.eventuallyOr(func() string {
		return fmt.Sprintf("%s: %s shares its calls by %v: last %v", step, l.name, weights, got)
	}, func() bool {
		got = l.during(100)
		return strays(got, weights) <= total(got)/10
	})
	got = l.during(judgedCalls)
	off := strays(got, weights)
	l.w.t.Logf("%s: %s: of %d calls %v, %d off", step, l.name, total(got), got, off)
	if off > judgedSlack {
		l.w.t.Errorf("that is more than %d off the shares by weights of %v", judgedSlack, weights)
	}
}

// strays returns by how many calls the server is off its share that is the furthest. One without a weight has no share.
func strays(got, weights map[string]int) (most int) {
	sum, all := total(weights), total(got)
	for name := range maps.Keys(got) {
		if weights[name] == 0 {
			return all
		}
	}
	for name, weight := range weights {
		off := got[name]*sum - weight*all
		most = max(most, (max(off, -off)+sum-1)/sum)
	}
	return most
}

func total(counts map[string]int) (sum int) {
	for n := range maps.Values(counts) {
		sum += n
	}
	return sum
}

// tutorialFleet is a fleet of the tutorial's kind that is replaced step by step, and those who call it.
type tutorialFleet struct {
	*world
	members []*member
	callers []*caller
}

// member is a place in the fleet, which one server after another takes.
type member struct {
	name, version string
	weight        int
	leave, stop   func() // of the server that is there now: it first leaves etcd
}

// caller is one whose calls are judged. Its share for a member is what weigh says, 0 for one that it does not call.
type caller struct {
	*load
	weigh func(*member) int
}

// fleetWeights are those of each of the two versions.
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

// gone ends callers that are not needed any more.
func (f *tutorialFleet) gone(gone ...*caller) {
	for _, c := range gone {
		c.stop()
		f.t.Logf("%s: %d calls, %d failed", c.name, c.calls, c.failures)
	}
	f.callers = slices.DeleteFunc(f.callers, func(c *caller) bool { return slices.Contains(gone, c) })
}

// judge holds the shares of all callers against the weights. Names of servers are those of their members.
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

// theirs starts the fleet as it was.
func (f *tutorialFleet) theirs(inKey bool) {
	f.t.Helper()
	for _, m := range f.members {
		m.name = "theirs " + m.name
		s := f.serve(m.name)
		e := f.tutorialRegister(tutorialServer{"user", s.addr, m.version, int64(m.weight)}, inKey, 5*time.Second)
		m.leave, m.stop = e.unregister, s.stop
	}
}

// ours returns how to start a server of ours that publishes itself as described.
func (f *tutorialFleet) ours(desc func(m *member) *runtime.ServiceDesc) func(*member, string) (leave, stop func()) {
	return func(m *member, name string) (leave, stop func()) {
		s := f.publish(name, desc(m), runtime.WithVersion(m.version), runtime.WithWeight(uint32(m.weight)))
		return s.stop, func() {}
	}
}

// oursBeside returns how to start such a server that is registered as old describes, too, until it leaves.
func (f *tutorialFleet) oursBeside(desc, old func(m *member) *runtime.ServiceDesc) func(*member, string) (leave, stop func()) {
	return func(m *member, name string) (leave, stop func()) {
		s := f.publish(name, desc(m), runtime.WithVersion(m.version), runtime.WithWeight(uint32(m.weight)))
		its := runtime.Endpoint{Addr: s.addr, Version: m.version, Weight: uint32(m.weight)}
		beside, err := f.newRegistry().Register(bounded(f.t), old(m).Key, its, runtime.WithLayouts(old(m).Layout))
		if err != nil {
			f.t.Fatal(err)
		}
		return func() {
			if err := beside.Close(bounded(f.t)); err != nil {
				f.t.Error(err)
			}
			s.stop()
		}, func() {}
	}
}

// split has callers of a key send a fifth of the calls to v1, and goes by weight within each version.
func (f *tutorialFleet) split(key string) {
	f.t.Helper()
	const config = `{"loadBalancingConfig":[{"etcd":{"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":4}],` +
		`"childPolicy":[{"etcd_weighted":{}}]}}]}`
	if err := f.registry.SetServiceConfig(bounded(f.t), key, config); err != nil {
		f.t.Fatal(err)
	}
}

// always describes all members alike.
func always(desc *runtime.ServiceDesc) func(*member) *runtime.ServiceDesc {
	return func(*member) *runtime.ServiceDesc { return desc }
}

// What callers make of the weights: all by weight, only those of a version, and all by weight and split.
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

// A fleet of the tutorial's kind, with the version in the keys, moves over under load: our clients read what is there, servers
// of ours take the place of theirs in their layout, the old client goes, and the fleet moves to a key
// of its own, under which a client finds both versions. The weights are honoured by everybody all the while.
func TestMigration_FromTutorialUnderLoad(t *testing.T) {
	f := newTutorialFleet(newWorld(t))
	versioned := func(m *member) *runtime.ServiceDesc {
		return &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/user/" + m.version, Layout: tutorialLayout, ServiceConfig: weighted}
	}
	user := &runtime.ServiceDesc{Name: "basic.Greeter", Key: "acme/user", ServiceConfig: weighted}

	f.theirs(true)
	old := f.call("the tutorial's client", f.tutorialConn("user"), byWeight)
	f.judge("before")
	v1 := f.call("our client of v1", f.conn(versioned(f.members[0])), ofVersion("v1"))
	v2 := f.call("our client of v2", f.conn(versioned(f.members[2])), ofVersion("v2"))
	f.judge("our clients")
	f.roll("their-layout", f.ours(versioned))
	f.gone(old)
	f.roll("both-keys", f.oursBeside(always(user), versioned))
	both := f.call("our client of both versions", f.conn(user), byWeight)
	f.judge("both-keys")
	f.gone(v1, v2)
	f.split(user.Key)
	both.weigh = bySplit
	f.judge("split")
	f.roll("ours", f.ours(always(user)))
	if left := f.entries("/user/"); len(left) > 0 {
		t.Errorf("left are %+v", left)
	}
	f.gone(both)
}

// The same without the version in the keys: a client finds both versions from the beginning, and the fleet can change its
// layout under the same key.
func TestMigration_FromTutorialWithOneKeyUnderLoad(t *testing.T) {
	f := newTutorialFleet(newWorld(t))
	theirs := &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/user", Layout: tutorialLayout, ServiceConfig: weighted}
	ours := &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/user", ServiceConfig: weighted}

	f.theirs(false)
	old := f.call("the tutorial's client", f.tutorialConn("user"), byWeight)
	f.judge("before")
	one := f.call("our client", f.conn(theirs), byWeight)
	f.judge("our client")
	f.split(ours.Key)
	one.weigh = bySplit
	f.judge("split")
	f.roll("their-layout", f.ours(always(theirs)))
	f.gone(old)
	f.roll("ours", f.ours(always(ours)))
	for _, left := range f.entries("/user/") {
		if !strings.Contains(left.value, `"Metadata"`) {
			t.Errorf("left is %+v", left)
		}
	}
	f.gone(one)
}
