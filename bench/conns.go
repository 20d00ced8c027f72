package bench

import (
	"fmt"
	"path/filepath"
	"runtime"
	"time"
)

const (
	connsEndpoints = 1000
	restEndpoints  = 100         // the number of endpoints of each key
	restMeasured   = time.Minute // how long rest measures

	// restCalming is the time from the start to the measurement: this project
	// probes each range soon after the start, and then less often.
	restCalming = 65 * time.Second
)

// conns counts the requests to etcd of several connections to one key, and the
// memory of a connection without gRPC's own memory. The memory is the average
// over all connections except the first.
var conns = &scenario{"Conns", "conns", []int{100}, finders[1:], runConns}

func runConns(r *run) (results, error) {
	return r.measureEach(1, func(peer string) (figures, error) {
		lists := r.etcd.lists.Load()
		watches := r.etcd.watches.Load()

		values, err := r.alone(params{
			Role:  "conns",
			Peer:  peer,
			Size:  r.part(connsEndpoints),
			Conns: r.size,
			Lasts: r.lasting(time.Second),
		})
		if err != nil {
			return nil, err
		}

		values["lists"] = float64(r.etcd.lists.Load() - lists)
		values["watches"] = float64(r.etcd.watches.Load() - watches)

		return values, nil
	})
}

func childConns(c *child) figures {
	open := c.open()
	c.meet("ready")
	goroutines := runtime.NumGoroutine()
	g := &group{}
	open(g, c.Key, 1, c.Size)
	time.Sleep(c.Lasts) // until goroutines of the start have ended

	held := live()
	open(g, c.Key, c.Conns-1, c.Size)
	time.Sleep(c.Lasts)

	values := figures{
		"goroutines/conn": float64(runtime.NumGoroutine()-goroutines) / float64(c.Conns),
		"B/conn":          max(0, live()-held) / float64(c.Conns-1),
	}

	runtime.KeepAlive(g)

	return values
}

// rest measures a process with a connection to each of several keys, on one
// etcd client, while nothing changes. The figure messages/min counts all
// messages that etcd receives. The peers are measured at the same time, each
// with its own etcd.
var rest = &scenario{"Rest", "keys", []int{100}, finders, runRest}

func runRest(r *run) (results, error) {
	return r.measureEach(len(r.peers), r.atRest)
}

func (r *run) atRest(peer string) (figures, error) {
	etcd, err := startEtcd(filepath.Join(r.dir, peer))
	if err != nil {
		return nil, err
	}
	defer etcd.close()

	for i := range r.size {
		err := etcd.putAll(styleOf(peer, fmt.Sprint(serviceKey, i)), 0, restEndpoints)
		if err != nil {
			return nil, err
		}
	}

	child, err := r.start(params{
		Role:  "rest",
		Peer:  peer,
		Etcd:  etcd.client.Endpoints(),
		Size:  restEndpoints,
		Conns: r.size,
	}, new(any))
	if err != nil {
		return nil, err
	}
	defer child.end()

	time.Sleep(r.lasting(restCalming))

	before, err := child.ask()
	if err != nil {
		return nil, err
	}

	messages := etcd.messages.Load()
	time.Sleep(r.lasting(restMeasured))
	messages = etcd.messages.Load() - messages

	values, err := child.ask()
	if err != nil {
		return nil, err
	}

	values["cpu-ns/min"] -= before["cpu-ns/min"]
	values["messages/min"] = float64(messages)

	return values, nil
}

// childRest reports its CPU time and memory each time that the parent asks.
func childRest(c *child) figures {
	open := c.open()
	held := live()
	groups := make([]group, c.Conns)

	for i := range groups {
		open(&groups[i], fmt.Sprint(serviceKey, i), 1, c.Size)
	}

	kept := live() - held
	for {
		c.meet(figures{"cpu-ns/min": float64(used().cpu), "kept-B": kept})
	}
}
