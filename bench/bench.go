// Package bench compares peers: this project, etcd's naming/resolver, go-zero's
// discov, and a floor, which does the least possible work. The floor lists and
// watches a key, and only decodes the values. Where calls are measured, the
// floor is round robin over a fixed list of addresses.
//
// Each peer runs in its own process, so that its CPU time, allocations and
// goroutines can be measured. The process is the test binary or, for go-zero,
// cmd/gozero, the only program that links it. One run of a scenario measures
// every peer once, in random order, so that the load of a busy machine affects
// all peers alike. make bench repeats the runs.
package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// The peers, as benchmarks name them.
const (
	peerFloor  = "floor"
	peerOurs   = "etcdrpc"
	peerEtcd   = "etcd"
	peerGoZero = "gozero"
)

var finders = []string{peerFloor, peerOurs, peerEtcd, peerGoZero}

// figures has the results of one run of a peer, by unit, in the form of
// benchstat.
type figures map[string]float64

// results has the figures of each peer.
type results map[string]figures

// scenario is one measurement.
type scenario struct {
	name  string
	param string // what sizes counts, such as "endpoints"
	sizes []int
	peers []string
	run   func(*run) (results, error)
}

// measure runs the scenario once and returns the figures of each peer. It
// divides the size and the duration by divisor, which is 1 for real figures and
// more to test the scenario. Without the go-zero program it skips that peer.
func (s *scenario) measure(size, divisor int) (results, error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)

	r := &run{divisor: divisor, peers: slices.Clone(s.peers), dir: dir}
	if os.Getenv(goZeroEnv) == "" {
		r.peers = slices.DeleteFunc(r.peers, func(peer string) bool {
			return peer == peerGoZero
		})
	}

	rand.Shuffle(len(r.peers), func(i, j int) {
		r.peers[i], r.peers[j] = r.peers[j], r.peers[i]
	})

	r.size = r.part(size)
	r.etcd, err = startEtcd(filepath.Join(dir, "shared"))
	if err != nil {
		return nil, err
	}
	defer r.etcd.close()

	return s.run(r)
}

// run is one run of a scenario.
type run struct {
	divisor int
	size    int // number of endpoints, connections or other units of the scenario
	peers   []string
	dir     string  // exists during the run
	etcd    *server // shared by the peers
}

// part returns n divided by the divisor, but at least 2, or n if n is below 2.
func (r *run) part(n int) int {
	return max(min(n, 2), n/r.divisor)
}

// lasting returns d divided by the divisor.
func (r *run) lasting(d time.Duration) time.Duration {
	return d / time.Duration(r.divisor)
}

// measureEach measures the peers, atOnce of them at the same time.
func (r *run) measureEach(
	atOnce int,
	measure func(peer string) (figures, error),
) (results, error) {
	var g errgroup.Group
	g.SetLimit(atOnce)

	var mu sync.Mutex
	all := results{}

	for _, peer := range r.peers {
		g.Go(func() error {
			values, err := measure(peer)
			if err != nil {
				return fmt.Errorf("%s: %w", peer, err)
			}

			mu.Lock()
			defer mu.Unlock()

			all[peer] = values

			return nil
		})
	}

	return all, g.Wait()
}

// inTurns starts all peers, each with its own service, and then calls measure
// for each peer, once in each of the turns. It returns, by peer, the sum of the
// results of all turns.
func inTurns[T any](
	r *run,
	p params,
	turns int,
	measure func(p *proc, turn int) (T, error),
	sum func([]T) figures,
) (results, error) {
	procs := make([]*proc, len(r.peers))
	measured := make([][]T, len(r.peers))

	for i, peer := range r.peers {
		p.Peer = peer
		p.Key = fmt.Sprint(serviceKey, i)

		child, err := r.ready(p)
		if err != nil {
			return nil, err
		}
		defer child.end()

		procs[i] = child
	}

	for turn := range turns {
		for i := range procs {
			i = (i + turn) % len(procs)

			one, err := measure(procs[i], turn)
			if err != nil {
				return nil, fmt.Errorf("turn %d: %w", turn, err)
			}

			measured[i] = append(measured[i], one)
		}
	}

	all := results{}
	for i, peer := range r.peers {
		all[peer] = sum(measured[i])
	}

	return all, nil
}

// latencies sorts times and returns their percentiles.
func latencies(took []time.Duration) figures {
	slices.Sort(took)

	return figures{
		"p50-ns": float64(took[len(took)/2]),
		"p99-ns": float64(took[len(took)*99/100]),
	}
}
