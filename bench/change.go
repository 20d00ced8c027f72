package bench

import (
	"runtime"
	"time"
)

// change measures how long single changes take: from just before another
// process writes a change until gRPC has passed the new state to the load
// balancing policy and, in this project, the policy uses it for calls. Changes
// of a service are so far apart that no peer batches them.
var change = &scenario{"Change", "endpoints", []int{10, 1000}, finders, runChange}

func runChange(r *run) (results, error) {
	turns := r.part(140)
	apart := 15*time.Millisecond + time.Duration(r.size)*25*time.Microsecond
	apart /= time.Duration(len(r.peers))

	measure := func(p *proc, turn int) (time.Duration, error) {
		style := styleOf(p.Peer, p.Key)
		time.Sleep(apart)

		sent := time.Now()
		if err := makeChange(r.etcd.client, style, r.size, turn); err != nil {
			return 0, err
		}

		var arrived int64
		err := p.hear(&arrived)

		return time.Duration(arrived - sent.UnixNano()), err
	}

	// the first turns are a warm-up
	sum := func(took []time.Duration) figures { return latencies(took[turns/7:]) }

	p := params{Role: "change", Size: r.size, Changes: turns}

	return inTurns(r, p, turns, measure, sum)
}

// childChange reports when each change arrives, in Unix nanoseconds.
func childChange(c *child) figures {
	g := c.openProbed()
	report := any("ready")
	for i := range c.Changes {
		arrived := g.expect(c.Size + (i+1)%2)
		say(report)
		report = within(arrived).UnixNano()
	}

	c.meet(report)

	return nil
}

// sequence measures consecutive changes: a second etcd client of the process
// writes a change as soon as the previous one has arrived.
var sequence = &scenario{
	"Sequence", "endpoints", []int{10, 100, 1000}, finders, runSequence,
}

func runSequence(r *run) (results, error) {
	return r.measureEach(1, func(peer string) (figures, error) {
		changes := r.part(10_000)
		if peer == peerEtcd || peer == peerGoZero { // both are slow, and need few changes
			changes = r.part(300)
		}

		return r.alone(params{
			Role:    "sequence",
			Peer:    peer,
			Size:    r.size,
			Changes: changes,
		})
	})
}

func childSequence(c *child) figures {
	g := c.openProbed()
	client := c.client()
	style := styleOf(c.Peer, c.Key)
	c.meet("ready")

	took := make([]time.Duration, c.Changes)
	before := used()
	for i := range took {
		arrived := g.expect(c.Size + (i+1)%2)
		sent := time.Now()
		must(makeChange(client, style, c.Size, i))
		took[i] = within(arrived).Sub(sent)
	}

	cpu := before.since(len(took))["cpu-ns/op"]
	values := latencies(took)
	values["cpu-ns/op"] = cpu

	return values
}

// extras is the number of endpoints that are added together at the end of a
// rollout. A connection that also has these endpoints has received all changes.
const extras = 100

// rollout and rollouts replace each endpoint as fast as etcd accepts changes,
// and churn makes 500 changes a second. With many connections or changes,
// etcd's resolver and go-zero would take minutes.
var (
	rollout  = replacing("Rollout", finders, 3000, 0, 1)
	rollouts = replacing("Rollouts", finders[:2], 5000, 0, 20)
	churn    = replacing("Churn", finders[:2], 1000, 2*time.Millisecond, 1, 20)
)

// replacing returns a scenario that replaces each endpoint by a new one. pace
// is that of server.rollout. The figures cover the time from the first change
// until all connections of the process have received the last change.
func replacing(
	name string,
	peers []string,
	size int,
	pace time.Duration,
	conns ...int,
) *scenario {
	measure := func(r *run) (results, error) {
		return r.measureEach(1, func(peer string) (figures, error) {
			return r.replaceAll(peer, r.part(size), pace)
		})
	}

	return &scenario{name, "conns", conns, peers, measure}
}

// replaceAll measures a peer while each of its endpoints is replaced.
func (r *run) replaceAll(peer string, size int, pace time.Duration) (figures, error) {
	if err := r.etcd.clear(); err != nil {
		return nil, err
	}

	p, err := r.ready(params{
		Role:  "rollout",
		Peer:  peer,
		Key:   serviceKey,
		Size:  size,
		Conns: r.size,
	})
	if err != nil {
		return nil, err
	}
	defer p.end()

	style := styleOf(peer, serviceKey)
	if err := r.etcd.rollout(style, size, size, pace); err != nil {
		return nil, err
	}

	if err := r.etcd.putAll(style, 2*size, 2*size+extras); err != nil {
		return nil, err
	}

	var values figures
	err = p.hear(&values)

	return values, err
}

func childRollout(c *child) figures {
	g := &group{}
	c.open()(g, c.Key, c.Conns, c.Size)
	arrived := g.expect(c.Size + extras)

	runtime.GC()
	before := used()
	say("ready")
	within(arrived)
	all := before.since(1)

	return figures{"cpu-ns/op": all["cpu-ns/op"], "alloc-B/op": all["alloc-B/op"]}
}

// cold measures the start of a resolver on a connected etcd client, until its
// first state. The figure kept-B is the heap that stays in use; the floor keeps
// only decoded values.
var cold = &scenario{"Cold", "endpoints", []int{10, 1000, 10_000}, finders, runCold}

func runCold(r *run) (results, error) {
	return r.measureEach(1, func(peer string) (figures, error) {
		return r.alone(params{Role: "cold", Peer: peer, Size: r.size})
	})
}

func childCold(c *child) figures {
	open := c.open()
	c.meet("ready")

	g := &group{}
	held := live()
	before := used()
	open(g, c.Key, 1, c.Size)
	values := before.since(1)

	delete(values, "mallocs/op")
	values["kept-B"] = live() - held
	runtime.KeepAlive(g)

	return values
}
