package world

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// fault has a step happen, and returns when it is over.
type fault func(w *World, ctx context.Context, step schedule.Step)

// faults holds one for every kind of step.
var faults = map[schedule.Kind]fault{
	schedule.MemberStops: func(w *World, _ context.Context, s schedule.Step) {
		w.stopMember(s.Who)
		time.Sleep(s.For)
		w.startMember(s.Who)
	},
	schedule.MemberIsolated: func(w *World, _ context.Context, s schedule.Step) {
		w.etcd.Isolate(s.Who, true)
		time.Sleep(s.For)
		w.etcd.Isolate(s.Who, false)
	},
	schedule.QuorumLost: func(w *World, _ context.Context, s schedule.Step) {
		for i := range w.plan.Members {
			w.etcd.Isolate(i, true)
		}
		time.Sleep(s.For)
		for i := range w.plan.Members {
			w.etcd.Isolate(i, false)
		}
	},
	schedule.MemberLags: func(w *World, _ context.Context, s schedule.Step) {
		w.etcd.Lag(s.Who, s.Milliseconds())
		time.Sleep(s.For)
		w.etcd.Lag(s.Who, 0)
	},
	schedule.LeaderChanges: func(w *World, _ context.Context, s schedule.Step) { w.etcd.Elect(s.Who) },
	schedule.Compaction:    func(w *World, _ context.Context, _ schedule.Step) { w.etcd.Compact() },
	schedule.Restore: func(w *World, _ context.Context, s schedule.Step) {
		backup := w.etcd.Backup()
		time.Sleep(s.For - s.Milliseconds())
		w.reset(s.Milliseconds(), func() { w.etcd.Restore(backup) })
	},
	schedule.Wipe: func(w *World, _ context.Context, s schedule.Step) { w.reset(s.For, w.etcd.Wipe) },
	schedule.NoSpace: func(w *World, _ context.Context, s schedule.Step) {
		w.etcd.Alarm(true)
		time.Sleep(s.For)
		w.etcd.Alarm(false)
	},
	schedule.RightsRefused: func(w *World, _ context.Context, s schedule.Step) {
		back := w.rights.refuse(s.Who, s.Text)
		time.Sleep(s.For)
		back()
	},
	schedule.TokensExpire: func(w *World, _ context.Context, _ schedule.Step) { w.etcd.ExpireTokens() },

	schedule.AnswersLost:  requests(func(schedule.Step) etcd.Verdict { return etcd.Verdict{Lose: true} }),
	schedule.AnswersLate:  requests(func(s schedule.Step) etcd.Verdict { return etcd.Verdict{After: s.Milliseconds()} }),
	schedule.RequestsLate: requests(func(s schedule.Step) etcd.Verdict { return etcd.Verdict{Before: s.Milliseconds()} }),
	schedule.RequestsFail: requests(func(schedule.Step) etcd.Verdict {
		return etcd.Verdict{Err: status.Error(codes.Unavailable, "etcdserver: leader changed")}
	}),

	schedule.CutFromEtcd:     fromEtcd(func(schedule.Step) network.Link { return network.Link{Cut: true} }),
	schedule.StalledFromEtcd: fromEtcd(func(schedule.Step) network.Link { return network.Link{Stalled: true} }),
	schedule.SlowToEtcd:      fromEtcd(func(s schedule.Step) network.Link { return network.Link{Delay: s.Milliseconds()} }),
	schedule.StalledFromMember: func(w *World, _ context.Context, s schedule.Step) {
		_, from := w.base(s.Who).now()
		w.network.Set(from, memberHost(s.Whom), network.Link{Stalled: true})
		time.Sleep(s.For)
		w.network.Set(from, memberHost(s.Whom), network.Link{})
	},
	schedule.ResetFromEtcd: func(w *World, _ context.Context, s schedule.Step) {
		_, from := w.base(s.Who).now()
		for i := range w.plan.Members {
			w.network.Reset(from, memberHost(i))
		}
	},
	schedule.CutFromServer:     fromServer(network.Link{Cut: true}),
	schedule.StalledFromServer: fromServer(network.Link{Stalled: true}),
	schedule.ResetFromServer: func(w *World, _ context.Context, s schedule.Step) {
		w.observe(func(j *check.Judge) { j.Link(time.Now(), w.plan.Name(s.Who), w.plan.Name(s.Whom), false, false) })
		_, from := w.base(s.Who).now()
		w.network.Reset(from, w.plan.Host(s.Whom))
	},

	schedule.SlowToServers: func(w *World, _ context.Context, s schedule.Step) {
		_, from := w.base(s.Who).now()
		set := func(l network.Link) {
			for i := range w.plan.Processes() {
				w.network.Set(w.plan.Host(i), from, l)
				w.observe(func(j *check.Judge) { j.Link(time.Now(), w.plan.Name(s.Who), w.plan.Name(i), false, false) })
			}
		}
		set(network.Link{Delay: s.Milliseconds()})
		time.Sleep(s.For)
		set(network.Link{})
	},

	schedule.EntryDeleted:   onEntries(func(w *World, e etcd.Entry, _ schedule.Step) { w.etcd.Delete(e.Key) }),
	schedule.EntriesDeleted: func(w *World, _ context.Context, _ schedule.Step) { w.etcd.DeletePrefix(shopKey + "/") },
	schedule.EntryOverwritten: func(w *World, ctx context.Context, s schedule.Step) {
		onEntries(func(w *World, e etcd.Entry, _ schedule.Step) { w.put(e.Key, nobody, 0) })(w, ctx, s)
		time.Sleep(s.For)
		for _, e := range w.etcd.Entries("acme/") {
			if w.operators(e) && strings.Contains(e.Key, "/") && e.Key != shopKey+"/nobody" && e.Key != badKey {
				w.etcd.Delete(e.Key)
			}
		}
	},
	schedule.EntryReplaced: onEntries(func(w *World, e etcd.Entry, _ schedule.Step) { w.put(e.Key, nobody, -1) }),
	schedule.LeaseRevoked: onEntries(func(w *World, e etcd.Entry, _ schedule.Step) {
		_ = w.etcd.Revoke(e.Lease) // another entry of the server may have been on it
	}),
	schedule.EntryAdded: func(w *World, _ context.Context, s schedule.Step) {
		w.put(shopKey+"/nobody", nobody, 0)
		w.soon("there is another entry", func(k runtime.KeyStatus) bool {
			_, ok := w.etcd.Get(shopKey + "/nobody")
			return !ok || slices.ContainsFunc(k.Endpoints, func(e runtime.Endpoint) bool { return e.Instance == "nobody" })
		})
		time.Sleep(s.For)
		w.etcd.Delete(shopKey + "/nobody")
	},
	schedule.BadEntryAdded: func(w *World, _ context.Context, s schedule.Step) {
		w.put(badKey, s.Text, 0)
		time.Sleep(s.For)
		w.etcd.Delete(badKey)
	},
	schedule.NeighbourAdded: func(w *World, _ context.Context, s schedule.Step) { w.put(s.Text, nobody, 0) },
	schedule.ConfigPut: func(w *World, _ context.Context, s schedule.Step) {
		w.observe(func(j *check.Judge) { j.Drain(w.plan.Drained(s.Text)...) })
		w.put(configs+shopKey, s.Text, 0)
		w.soon("the live config is "+s.Text, func(k runtime.KeyStatus) bool {
			live, _ := w.etcd.Get(configs + shopKey)
			return live.Value != s.Text || holds(k.ServiceConfig, s.Text)
		})
	},
	schedule.ConfigDeleted: func(w *World, _ context.Context, _ schedule.Step) {
		w.etcd.Delete(configs + shopKey)
		w.soon("there is no live config", func(k runtime.KeyStatus) bool {
			_, ok := w.etcd.Get(configs + shopKey)
			return ok || k.ServiceConfig == ""
		})
	},
	schedule.BadConfigPut: func(w *World, _ context.Context, s schedule.Step) { w.put(configs+shopKey, s.Text, 0) },

	schedule.ServerKilled: func(w *World, ctx context.Context, s schedule.Step) {
		w.servers[s.Who].kill(ctx)
		w.again(ctx, s)
	},
	schedule.ServerRestarts: func(w *World, ctx context.Context, s schedule.Step) {
		w.servers[s.Who].stop(ctx)
		w.again(ctx, s)
	},
	schedule.ServerPauses:  func(w *World, ctx context.Context, s schedule.Step) { w.servers[s.Who].pause(ctx, s.For) },
	schedule.ServerUpdates: func(w *World, ctx context.Context, s schedule.Step) { w.servers[s.Who].update(ctx, s.N) },
	schedule.TwinStarts:    func(w *World, ctx context.Context, s schedule.Step) { w.twin(ctx, s) },
	schedule.CallerRestarts: func(w *World, ctx context.Context, s schedule.Step) {
		c := w.callers[s.Who-len(w.servers)]
		c.stop(ctx)
		c.start(ctx)
	},
	schedule.CallerIdles: func(w *World, _ context.Context, s schedule.Step) { w.callers[s.Who-len(w.servers)].rest(s.For) },
	schedule.WriterDies: func(w *World, ctx context.Context, s schedule.Step) {
		o := w.writers[s.Who-len(w.servers)-len(w.callers)]
		o.kill(ctx)
		time.Sleep(s.For)
		o.start(ctx)
	},
}

const (
	// nobody is an entry of an address that nobody serves.
	nobody = `{"Addr":"10.9.0.9:80"}`
	badKey = shopKey + "/bad"
)

func requests(verdict func(schedule.Step) etcd.Verdict) fault {
	return func(w *World, _ context.Context, s schedule.Step) {
		remove := w.rules.add(s.Who, s.Text, verdict(s))
		time.Sleep(s.For)
		remove()
	}
}

// fromEtcd changes the links of a process to all members.
func fromEtcd(link func(schedule.Step) network.Link) fault {
	return func(w *World, _ context.Context, s schedule.Step) {
		p := w.base(s.Who)
		life, from := p.now()
		set := func(l network.Link) {
			for i := range w.plan.Members {
				w.network.Set(from, memberHost(i), l)
			}
		}
		set(link(s))
		time.Sleep(s.For)
		if now, _ := p.now(); now == life { // else it stays off the network
			set(network.Link{})
		}
	}
}

// fromServer changes the link between a caller and a server.
func fromServer(link network.Link) fault {
	return func(w *World, _ context.Context, s schedule.Step) {
		p := w.base(s.Who)
		to := w.plan.Host(s.Whom)
		life, from := p.now()
		set := func(l network.Link) {
			w.observe(func(j *check.Judge) { j.Link(time.Now(), w.plan.Name(s.Who), w.plan.Name(s.Whom), l.Cut, l.Stalled) })
			w.network.Set(from, to, l)
		}
		set(link)
		time.Sleep(s.For)
		if now, _ := p.now(); now == life {
			set(network.Link{})
		} else {
			w.observe(func(j *check.Judge) { j.Link(time.Now(), w.plan.Name(s.Who), w.plan.Name(s.Whom), false, false) })
		}
	}
}

// onEntries does something to each entry that names the address of a server.
func onEntries(do func(*World, etcd.Entry, schedule.Step)) fault {
	return func(w *World, _ context.Context, s schedule.Step) {
		id, addr := w.servers[s.Who].known()
		w.observe(func(j *check.Judge) { j.Doubt(time.Now(), id) })
		for _, e := range w.etcd.Entries("acme/") {
			if strings.Contains(e.Value, addr) {
				do(w, e, s)
			}
		}
	}
}

// put puts a key by an operator's hand, who is not told when there is no room for it.
func (w *World) put(key, value string, lease int64) { _ = w.etcd.Put(key, value, lease) }

// reset changes all that etcd has, while every member is down.
func (w *World) reset(down time.Duration, change func()) {
	for i := range w.plan.Members {
		w.stopMember(i)
	}
	time.Sleep(down)
	w.mu.Lock()
	w.resets = append(w.resets, time.Now())
	w.mu.Unlock()
	change()
	w.rights.apply() // a backup has the rights of its time
	w.note("reset to revision %d", w.etcd.Revision())
	for i := range w.plan.Members {
		w.startMember(i)
	}
}

// again starts a server that has ended.
func (w *World) again(ctx context.Context, s schedule.Step) {
	time.Sleep(s.For)
	server := w.servers[s.Who]
	server.do(func() {
		if s.N == 1 {
			server.port++
		}
		switch s.Text {
		case schedule.WithNewer:
			server.spec.Newer = true
		case schedule.WithoutNewer:
			server.spec.Newer = false
		}
	})
	server.start(ctx)
}

// twin starts another process under the instance id of a server, and stops it in order.
func (w *World) twin(ctx context.Context, s schedule.Step) {
	twin := newTwin(w, s.Who)
	twin.start(ctx)
	time.Sleep(s.For)
	twin.stop(ctx)
}

func memberHost(i int) string { return fmt.Sprintf("10.1.0.%d", i+1) }

func memberAddr(i int) string { return memberHost(i) + ":2379" }

func (w *World) memberAddrs() []string {
	var addrs []string
	for i := range w.plan.Members {
		addrs = append(addrs, memberAddr(i))
	}
	return addrs
}

// stopMember stops a member of etcd, until it has been started as often as it was stopped.
func (w *World) stopMember(i int) {
	w.mu.Lock()
	w.down[i]++
	first := w.down[i] == 1
	w.mu.Unlock()
	if first {
		w.etcd.Stop(i)
	}
}

// startMember starts a member that was stopped.
func (w *World) startMember(i int) {
	w.mu.Lock()
	w.down[i]--
	last := w.down[i] == 0
	w.mu.Unlock()
	if last {
		w.serveMember(i)
	}
}

func (w *World) serveMember(i int) {
	listener, err := w.network.Listen(memberAddr(i))
	if err != nil {
		panic(err) // the world is not as it is meant to be
	}
	w.etcd.Serve(i, listener)
}

// registered returns the addresses that etcd has for a service, sorted.
func (w *World) registered(key string) []string {
	var addrs []string
	for _, e := range w.etcd.Entries(key + "/") {
		if addr := address(e); addr != "" {
			addrs = append(addrs, addr)
		}
	}
	slices.Sort(addrs)
	addrs = slices.Compact(addrs)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, addr := range addrs {
		w.seen[key+" "+addr] = time.Now()
	}
	return addrs
}

// lately returns the addresses that etcd was seen to have for a service within the grace.
func (w *World) lately(key string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var addrs []string
	for seen, at := range w.seen {
		if addr, ok := strings.CutPrefix(seen, key+" "); ok && time.Since(at) < check.Grace-time.Second {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}
