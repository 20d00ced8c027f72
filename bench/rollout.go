package bench

import "runtime"

// marks is the number of endpoints added at once at the end of a rollout: their number shows that a
// connection has received everything.
const marks = 100

// rollout replaces each endpoint by a new one, as fast as etcd accepts. The figures cover the process
// from the first change until it knows the last one.
var rollout = &scenario{"Rollout", "endpoints", []int{3000}, finders, func(r *run) (map[string]figures, error) {
	return r.each(1, func(peer string) (figures, error) {
		if err := r.etcd.clear(); err != nil {
			return nil, err
		}
		p, err := r.ready(params{Role: "rollout", Peer: peer, Key: serviceKey, Size: r.size})
		if err != nil {
			return nil, err
		}
		defer p.end()
		style := styleOf(peer, serviceKey)
		if err := r.etcd.rollout(style, r.size, r.size, 0); err != nil {
			return nil, err
		}
		if err := r.etcd.putAll(style, 2*r.size, 2*r.size+marks); err != nil {
			return nil, err
		}
		var values figures
		err = p.hear(&values)
		return values, err
	})
}}

func childRollout(c *child) (figures, error) {
	open, err := c.open()
	if err != nil {
		return nil, err
	}
	g := &group{}
	if err := open(g, c.Key, 1, c.Size); err != nil {
		return nil, err
	}
	arrived := g.expect(c.Size + marks)
	runtime.GC()
	before := used()
	if err := say("ready"); err != nil {
		return nil, err
	}
	if _, err := within(arrived); err != nil {
		return nil, err
	}
	all := before.since(1)
	return figures{"cpu-ns/op": all["cpu-ns/op"], "alloc-B/op": all["alloc-B/op"]}, nil
}

// cold times from the start of the resolver to its first state, on a connected etcd client. Kept is
// the heap afterwards; the floor keeps decoded values and nothing for gRPC.
var cold = &scenario{"Cold", "endpoints", []int{10_000}, finders, func(r *run) (map[string]figures, error) {
	return r.each(1, func(peer string) (figures, error) {
		return r.alone(params{Role: "cold", Peer: peer, Key: serviceKey, Size: r.size})
	})
}}

func childCold(c *child) (figures, error) {
	open, err := c.open()
	if err != nil {
		return nil, err
	}
	if err := c.meet("ready"); err != nil {
		return nil, err
	}
	g, held, before := &group{}, live(), used()
	if err := open(g, c.Key, 1, c.Size); err != nil {
		return nil, err
	}
	values := before.since(1)
	delete(values, "mallocs/op")
	values["kept-B"] = live() - held
	runtime.KeepAlive(g)
	return values, nil
}
