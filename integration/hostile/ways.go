package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A way is one of the ways to write what a caller reads.
type way struct {
	name string
	row  string // of the findings that it belongs to; "" for none
	what string // the writer does

	elected   bool   // the caller calls the leader of the hostile service
	policy    string // what the caller's own config for the hostile service says; "": round robin
	slowNames bool   // the caller's name server does not answer
	link      bool   // the caller reaches etcd over a link
	slowStart bool   // which is slow when the second caller starts, so that this is measured for as long as the first one
	crowded   bool   // the link is too slow for what is written, and news of honest changes waits for its turn on it
	passing   bool   // nothing of it is left to start beside

	// write does it. It may return early, and must when ctx ends.
	write func(ctx context.Context, a *attack)
}

const (
	ringHash = `{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}`
	zones    = `{"etcd":{"preferZone":true,"childPolicy":[{"round_robin":{}}]}}`
)

// ways are all of them: those that were once found to hurt first.
var ways = slices.Concat(entryWays, trafficWays, electionWays, laneWays, configWays)

// entryWays are about how much there is.
var entryWays = []way{
	{name: "servers", row: "S4", what: "600 entries, each with a gRPC server", write: puts(600, func(a *attack, i int) string {
		return entry(a.serving(i))
	})},
	{name: "small pieces", row: "S4", what: "50 MB of metadata in 4 million pieces", write: puts(850, func(a *attack, i int) string {
		var pieces []string
		for n := range 4600 {
			pieces = append(pieces, fmt.Sprintf("%06d", i*4600+n), `"v"`)
		}
		return entry(a.closing(i), pieces...)
	})},
	{name: "large pieces", row: "S4", what: "50 MB of metadata in 850 pieces", write: puts(850, func(a *attack, i int) string {
		return entry(a.closing(i), "m", text(i, 60<<10))
	})},
	{name: "over the limit", row: "S4", what: "60 values of 1.4 MB", write: large},
	{name: "slow to list", row: "S4", what: "60 values of 1.4 MB, listed over a link of 4 MB/s by a process that starts", link: true, slowStart: true,
		write: large},
	{name: "snapshots", row: "S14", what: "70 MB of values, one of which changes 50 times a second", write: func(ctx context.Context, a *attack) {
		value := func(i int) string { return entry(a.closing(i), "m", text(i, 60<<10)) }
		a.putAll(ctx, numbered(1200, value))
		every(ctx, 50, func(n int) {
			i := n % 1200
			a.put(ctx, fmt.Sprintf("%06d", i), entry(a.closing(i), "m", text(n, 60<<10)))
		})
	}},
	{name: "methods", what: "3,000 entries with 16 KB of grpc_methods, all different", write: puts(3000, func(a *attack, i int) string {
		var methods strings.Builder
		for n := range 800 {
			fmt.Fprintf(&methods, "/acme.S%d/M%d ", i, n)
		}
		return entry(a.closing(i), "grpc_methods", fmt.Sprintf("%q", methods.String()))
	})},
	{name: "tiny entries", what: "100,000 plain addresses", write: puts(100_000, func(a *attack, i int) string {
		return a.closing(i)
	})},
	{name: "long keys", what: "60 entries with keys of 1 MB", write: func(ctx context.Context, a *attack) {
		for i := range 60 {
			a.put(ctx, fmt.Sprint(i)+strings.Repeat("k", 1<<20), a.closing(i))
		}
	}},
	{name: "one address", what: "20,000 entries with one address", write: puts(20_000, func(a *attack, i int) string {
		return entry(a.serving(1), "n", fmt.Sprint(`"`, i, `"`))
	})},
	{name: "others' addresses", what: "10 entries for each server of the other services", write: puts(10*len(honest)*instances, func(a *attack, i int) string {
		return entry(a.addrs[honest[i%len(honest)]][i/len(honest)%instances])
	})},
	{name: "deep values", what: "500 values nested 30,000 deep", write: puts(500, func(a *attack, i int) string {
		return entry(a.closing(i), "m", strings.Repeat("[", 30_000)+strings.Repeat("]", 30_000))
	})},
	{name: "heavy weights", row: "S2", what: "65,536 entries of weight 65,536 under ring hash", policy: ringHash, write: puts(65_536, func(a *attack, i int) string {
		return entry(a.closing(i), "weight", "65536")
	})},
	{name: "odd weights", what: "2,000 entries whose weights flip between 0 and the most", policy: `{"etcd_weighted":{}}`, write: flips(2000, func(a *attack, n, i int) string {
		return entry(a.serving(i), "weight", []string{"0", "4294967295", "-1", `"1e9"`}[(n+i)%4])
	})},
}

// trafficWays are about how it changes, and where it leads.
var trafficWays = []way{
	{name: "silent servers", row: "S4", what: "600 entries whose servers accept and say nothing", write: puts(600, func(a *attack, i int) string {
		return entry(a.traps.addr(a.traps.silent, i))
	})},
	{name: "closing servers", what: "600 entries whose servers accept and close", write: puts(600, func(a *attack, i int) string {
		return entry(a.closing(i))
	})},
	{name: "web servers", what: "600 entries whose servers speak HTTP/1.1", write: puts(600, func(a *attack, i int) string {
		return entry(a.traps.addr(a.traps.web, i))
	})},
	{name: "slow names", what: "600 host names that no name server answers for", slowNames: true, write: puts(600, func(a *attack, i int) string {
		return entry(fmt.Sprintf("host-%d.example.com:80", i))
	})},
	{name: "names of this machine", what: "localhost, at the ports of the other services", write: puts(len(honest)*instances, func(a *attack, i int) string {
		_, port, _ := strings.Cut(a.addrs[honest[i%len(honest)]][i/len(honest)], ":")
		return entry("localhost:" + port)
	})},
	{name: "new addresses", what: "25 entries whose servers move 20 times a second", passing: true, write: func(ctx context.Context, a *attack) {
		every(ctx, 20, func(n int) {
			a.putAll(ctx, numbered(25, func(i int) string { return entry(a.serving(n*25 + i)) }))
		})
	}},
	{name: "malformed", row: "S11", what: "300 malformed values a second", write: func(ctx context.Context, a *attack) {
		every(ctx, 300, func(n int) { a.put(ctx, fmt.Sprint(n), fmt.Sprintf(`{"Addr":%d`, n)) })
	}},
	{name: "one key", what: "one key is put and deleted as fast as etcd can", passing: true, write: func(ctx context.Context, a *attack) {
		forever(ctx, func(n int) {
			a.put(ctx, "one", entry(a.serving(n%2)))
			a.delete(ctx, "one")
		})
	}},
	{name: "many keys", what: "1,000 keys are put and deleted by 16 clients as fast as etcd can", passing: true, write: func(ctx context.Context, a *attack) {
		crowd(16, func(i int) {
			forever(ctx, func(n int) {
				instance := fmt.Sprint(i, "-", n%64)
				if n/64%2 == 0 {
					a.put(ctx, instance, entry(a.closing(i*64+n%64)))
				} else {
					a.delete(ctx, instance)
				}
			})
		})
	}},
	{name: "transactions", what: "transactions of 128 puts as fast as etcd can", write: flips(128, func(a *attack, n, i int) string {
		return entry(a.serving(i), "n", fmt.Sprint(`"`, n, `"`))
	})},
	{name: "large changes", what: "64 KB values are put by 4 clients as fast as etcd can", write: func(ctx context.Context, a *attack) {
		crowd(4, func(i int) {
			forever(ctx, func(n int) {
				a.put(ctx, fmt.Sprint(i, "-", n%20), entry(a.closing(i*20+n%20), "m", text(n, 60<<10)))
			})
		})
	}},
	{name: "huge changes", what: "1.4 MB values are put as fast as etcd can", write: func(ctx context.Context, a *attack) {
		forever(ctx, func(n int) { a.put(ctx, "one", entry(a.closing(1), "m", text(n, 1400<<10))) })
	}},
	{name: "crowded link", what: "60 values of 1.4 MB, while the link carries 4 MB/s", link: true, crowded: true, write: func(ctx context.Context, a *attack) {
		a.link.slow.Store(true)
		large(ctx, a)
	}},
	{name: "leaving", what: "200 entries flip their mark of leaving", write: flips(200, func(a *attack, n, i int) string {
		return entry(a.serving(i), "grpc_leaving", fmt.Sprintf(`"%t"`, (n+i)%2 == 0))
	})},
	{name: "honest entries leaving", what: "the service's own honest entries are marked as leaving, 20 times a second", passing: true, write: func(ctx context.Context, a *attack) {
		every(ctx, 20, func(n int) {
			addr := a.addrs[hostile][n%instances]
			value := entry(addr, "grpc_leaving", `"true"`)
			// With the lease that is there, for the owner to find it changed and no more.
			_, err := a.keys.Put(ctx, hostileKeys+addr, value, clientv3.WithIgnoreLease())
			a.note(1, len(value), err)
		})
	}},
	{name: "short leases", what: "200 entries on leases of 1 s that always expire", passing: true, write: func(ctx context.Context, a *attack) {
		every(ctx, 4, func(n int) {
			lease, err := a.keys.Grant(ctx, 1)
			if err != nil {
				a.note(0, 0, err)
				return
			}
			for i := range 50 {
				a.put(ctx, fmt.Sprint((n%4)*50+i), entry(a.serving(i)), clientv3.WithLease(lease.ID))
			}
		})
	}},
	{name: "others' leases", row: "S3", what: "keys are hung on every lease there is, and every lease is revoked where etcd allows it", write: writeLeases},
	{name: "layouts", what: "200 keys change their layout all the time", write: flips(200, func(a *attack, n, i int) string {
		return inLayout(n+i, a.serving(i))
	})},
	{name: "duplicates", what: "each of 200 addresses in 4 layouts under 4 keys", write: flips(800, func(a *attack, n, i int) string {
		return inLayout(i%4, a.serving(i/4))
	})},
	{name: "control characters", row: "S12", what: "keys and values with line feeds and bidirectional marks, half of them malformed", write: func(ctx context.Context, a *attack) {
		every(ctx, 100, func(n int) {
			value := entry(a.closing(n), "m\n\u202e", `"\n\u001b[2J"`)
			a.put(ctx, fmt.Sprintf("\nlevel=ERROR msg=forged n=%d\u202e\x1b[31m", n), value[:len(value)-n%2])
		})
	}},
	{name: "zones", what: "500 entries move between zones all the time", policy: zones, write: flips(500, func(a *attack, n, i int) string {
		return entry(a.serving(i), "zone", fmt.Sprintf("%q", string("ab"[n%2])))
	})},
	{name: "compactions", what: "entries change, and history is compacted, 50 times a second", write: func(ctx context.Context, a *attack) {
		every(ctx, 50, func(n int) {
			a.put(ctx, fmt.Sprint(n%100), entry(a.serving(n%100), "n", fmt.Sprint(`"`, n, `"`)))
			// etcd may refuse it, or have a later one.
			if _, err := a.keys.Compact(ctx, 0); err != nil {
				_, _ = a.etcd.Compact(ctx)
			}
		})
	}},
}

// electionWays are about who leads.
var electionWays = []way{
	{name: "candidates", elected: true, what: "60,000 candidates stand for the leadership", write: func(ctx context.Context, a *attack) {
		a.stand(ctx, 60_000, a.closing)
	}},
	{name: "large candidates", elected: true, what: "60 candidates of 1.4 MB", write: func(ctx context.Context, a *attack) {
		a.stand(ctx, 60, func(i int) string { return text(i, 1400<<10) })
	}},
	{name: "unseated", elected: true, passing: true, what: "the first candidate is deleted as fast as etcd can", write: func(ctx context.Context, a *attack) {
		forever(ctx, func(int) { a.unseat(ctx) })
	}},
	{name: "candidates come and go", elected: true, what: "128 candidates change as fast as etcd can, each for another instance", write: func(ctx context.Context, a *attack) {
		forever(ctx, func(n int) {
			a.stand(ctx, 128, func(i int) string { return a.serving(n + i) })
		})
	}},
}

// laneWays are about which calls go where.
var laneWays = []way{
	{name: "lanes", policy: `{"etcd":{"route":[{"label":"lane"}]}}`, what: "600 entries, each in a lane of its own, which changes all the time", write: flips(600, func(a *attack, n, i int) string {
		return entry(a.serving(i), "lane", fmt.Sprintf("%q", laneOf(n+i)))
	})},
	{name: "routes", what: "64 routes over 10,000 entries, which change 10 times a second", write: func(ctx context.Context, a *attack) {
		a.fleet(ctx)
		every(ctx, 10, func(n int) {
			var routes []string
			for i := range 64 {
				routes = append(routes, fmt.Sprintf(`{"lane":%q,"match":{"version":"v%d"},"strict":%t}`, laneOf(n+i), (n+i)%300, i%2 == 0))
			}
			a.putConfig(ctx, policy(`{"etcd":{"route":[`+strings.Join(routes, ",")+`]}}`))
		})
	}},
}

// large puts 60 values that are longer than any client takes.
func large(ctx context.Context, a *attack) {
	for i := range 60 {
		a.put(ctx, fmt.Sprint(i), entry(a.closing(i), "m", text(i, 1400<<10)))
	}
}

// writeLeases enumerates the leases of etcd and lays hands on each.
func writeLeases(ctx context.Context, a *attack) {
	a.put(ctx, "one", entry(a.serving(1)))
	every(ctx, 100, func(n int) {
		leases, err := a.keys.Leases(ctx)
		if err != nil {
			// The writer may not list them: but ids can be known otherwise.
			if leases, err = a.etcd.Admin().Leases(ctx); err != nil {
				a.note(0, 0, err)
				return
			}
		}
		for _, lease := range leases.Leases {
			a.put(ctx, fmt.Sprint("lease-", lease.ID), entry(a.serving(n%10)), clientv3.WithLease(lease.ID))
			revoking, cancel := context.WithTimeout(ctx, time.Second)
			_, err := a.keys.Revoke(revoking, lease.ID)
			cancel()
			a.note(0, 0, err)
		}
	})
}

// inLayout is an entry in one of four layouts that share a key.
func inLayout(n int, addr string) string {
	switch n % 4 {
	case 0:
		return entry(addr)
	case 1:
		return addr
	case 2:
		return fmt.Sprintf(`{"id":"x","name":"hostile","version":"v%d","metadata":{"n":"%d"},"endpoints":["grpc://%s"]}`, n, n, addr)
	default:
		return fmt.Sprintf(`{"network":"tcp","address":%q,"weight":%d,"tags":{"n":"%d"}}`, addr, n, n)
	}
}
