package worstday

import (
	"cmp"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// fault is a column. Comments name the meaning of a zero value; a nil hook does
// nothing.
type fault struct {
	name    string
	opts    []etcdtest.Option
	user    bool          // the processes log in
	early   func(*bed)    // runs before there are clients
	prepare func(*bed)    // runs when all rows are ready
	begin   func(*bed)    // begins the fault, before the operations begin
	during  func(*bed)    // runs while the operations run
	end     func(*bed)    // ends the fault
	lasts   time.Duration // from begin to end
	hangs   int           // the number of unary calls of each client that get no answer
	down    bool          // no process can follow etcd during the fault
	held    bool          // the fault affects only entries on leases
	refuses bool          // etcd rejects requests, and processes retry writes
	tries   int           // how often plain code tries a write; 0: 3
	try     time.Duration // how long a try of plain code lasts; 0: 2 s

	// the time in which gRPC's keepalive surely detects the fault; 0: the
	// results do not depend on keepalive
	notice time.Duration

	// how long a server may always take, even if plain code was faster, because
	// chance or round trips decide; 0: no such time
	luck time.Duration
}

// writes and ends return the policies with which plain code writes and ends.
// Plain code gives up its end after at most 8 s, or when etcd rejects a
// request.
func (f fault) writes() policy {
	return policy{cmp.Or(f.tries, 3), cmp.Or(f.try, 2*time.Second)}
}

func (f fault) ends() policy {
	if f.refuses {
		return policy{1, 2 * time.Second}
	}

	return policy{min(f.writes().tries, 4), 2 * time.Second}
}

// batch returns the number of puts in a transaction of plain code. It is 1 if
// etcd may reject puts, because one rejected put fails its whole transaction.
func (f fault) batch() int {
	if f.refuses {
		return 1
	}

	return 100
}

// faults is the table's columns. Close gives up after 5 s. So an outage after
// which the end of a process still succeeds lasts at most 3 s.
var faults = []fault{
	outage("cut", 2, cut, restore),
	outage("cut", 3, cut, restore),
	outage("cut", 22, cut, restore),
	outage("refused", 2, refuse, restore),
	outage("refused", 3, refuse, restore),
	outage("silent", 3, silence, (*bed).speak),
	outage("silent", 20, silence, (*bed).speak),
	outage("answers lost", 3, loseAnswers, reset),
	{
		name:  "resets now and then",
		lasts: 6 * time.Second,
		during: func(b *bed) {
			for range 8 {
				reset(b)
				time.Sleep(700 * ms)
			}
		},
	},
	outage("stopped", 3, stop, func(b *bed) { b.must(b.cluster.Restart()) }),
	hung("a member hangs", false),
	hung("the leader hangs", true),
	{name: "one call hangs", lasts: 5 * time.Second, hangs: 1},
	{name: "two calls hang", lasts: 5 * time.Second, hangs: 2},
	slow(150 * ms), slow(600 * ms), slow(3500 * ms),
	streams(2), streams(4), streams(8),
	{
		name:    "no space",
		lasts:   3 * time.Second,
		tries:   4,
		refuses: true,
		begin: func(b *bed) {
			b.hold()
			b.must(b.cluster.SetNoSpace(background, true))
		},
		end: func(b *bed) {
			b.must(b.cluster.SetNoSpace(background, false))
			b.rewrite()
		},
	},
	{
		name:    "right taken",
		user:    true,
		lasts:   4 * time.Second,
		down:    true,
		tries:   5,
		refuses: true,
		begin: func(b *bed) {
			_, err := b.judge.RoleRevokePermission(background, user, "\x00", "\x00")
			b.must(err)
		},
		end: func(b *bed) {
			_, err := b.judge.RoleGrantPermission(background, user, "\x00", "\x00",
				clientv3.PermissionType(clientv3.PermReadWrite))
			b.must(err)
		},
	},
	{
		name:    "token expired",
		user:    true,
		opts:    []etcdtest.Option{etcdtest.WithTokenTTL(time.Second)},
		lasts:   3 * time.Second,
		prepare: func(*bed) { time.Sleep(2 * time.Second) },
	},
	{
		name:  "lease lost",
		held:  true,
		lasts: time.Second,
		begin: func(b *bed) {
			resp, err := b.judge.Leases(background)
			b.must(err)

			for _, l := range resp.Leases {
				_, err := b.judge.Revoke(background, l.ID)
				b.must(err)
			}
		},
	},
	{
		name:  "keys deleted",
		held:  true,
		lasts: time.Second,
		begin: func(b *bed) {
			resp, err := b.judge.Get(background, "", clientv3.WithPrefix())
			b.must(err)

			for _, kv := range resp.Kvs {
				if kv.Lease != 0 {
					b.write(string(kv.Key), "")
				}
			}
		},
	},
	{
		name:  "wiped",
		lasts: 3 * time.Second,
		begin: func(b *bed) {
			b.hold()
			b.must(b.cluster.Wipe())
		},
		end: (*bed).rewrite,
	},
	{
		name:    "restored",
		lasts:   3 * time.Second,
		prepare: (*bed).save,
		begin: func(b *bed) {
			b.hold()
			b.must(b.cluster.RestoreBackup(b.backup))
		},
		end: (*bed).rewrite,
	},
	outage("compacted while cut", 2, cut, func(b *bed) {
		b.write("junk", "x")
		_, err := b.cluster.Compact(background)
		b.must(err)
		restore(b)
	}),
	{
		name:  "restarts in turn",
		opts:  three,
		lasts: 4 * time.Second,
		during: func(b *bed) {
			for _, m := range b.cluster.Members() {
				b.must(m.Restart())
				time.Sleep(700 * ms)
			}
		},
	},
}

var three = []etcdtest.Option{etcdtest.WithMembers(3)}

func cut(b *bed) {
	b.cluster.Cut()
}

// reset breaks all connections, and lets new ones be made at once.
func reset(b *bed) {
	cut(b)
	restore(b)
}

func stop(b *bed) {
	b.cluster.Stop()
}

func refuse(b *bed) {
	b.way.set(func(w *way) { w.refuse = true })
	cut(b)
}

func loseAnswers(b *bed) {
	b.way.set(func(w *way) { w.lose = true })
}

func silence(b *bed) {
	b.cluster.Pause()
}

// restore ends cuts, refusals and the loss of answers.
func restore(b *bed) {
	b.way.set(func(w *way) {
		w.refuse = false
		w.lose = false
	})

	b.cluster.Restore()
}

func (b *bed) speak() {
	b.cluster.Resume()
}

// outage returns a fault during which no answer arrives. Plain code tries a
// write often enough to outlast the fault.
func outage(name string, lasts int, begin, end func(*bed)) fault {
	return fault{
		name:  fmt.Sprintf("%s %ds", name, lasts),
		lasts: time.Duration(lasts) * time.Second,
		down:  true,
		tries: lasts/2 + 3,
		begin: begin,
		end:   end,
	}
}

// hung returns a fault in which a member hangs for clients and other members,
// until after gRPC's keepalive has detected it. At first clients reach only
// that member. They reach the others when the rows are ready.
func hung(name string, leader bool) fault {
	return fault{
		name:   name,
		opts:   three,
		lasts:  16 * time.Second,
		notice: 14 * time.Second,
		luck:   10 * time.Second,
		early:  func(b *bed) { b.aim(leader) },
		prepare: func(b *bed) {
			b.release()
			time.Sleep(300 * ms)
		},
		begin: func(b *bed) {
			b.target.Pause()
			b.target.PausePeers()
		},
		end: func(b *bed) {
			b.target.ResumePeers()
			b.target.Resume()
		},
	}
}

// aim chooses the member that will hang, the leader or a follower. Clients do
// not reach the other members until release is called.
func (b *bed) aim(leader bool) {
	lead, err := b.cluster.Leader(background)
	b.must(err)

	released := make(chan struct{})
	b.release = func() { close(released) }
	b.way.waits = map[string]<-chan struct{}{}
	var healthy []string

	for i, m := range b.cluster.Members() {
		if b.target == nil && (m == lead) == leader {
			b.target = m
			continue
		}

		b.way.waits[hostOf(m.Endpoint())] = released
		healthy = append(healthy, b.cluster.Admin().Endpoints()[i])
	}

	b.judge.SetEndpoints(healthy...)
}

// slow returns a fault that delays all answers. An operation of the runtime may
// need three round trips where plain code needs one.
func slow(d time.Duration) fault {
	set := func(d time.Duration) func(*bed) {
		return func(b *bed) { b.way.set(func(w *way) { w.delay = d }) }
	}

	return fault{
		name:  fmt.Sprintf("slow by %v", d),
		lasts: 6*time.Second + d,
		try:   2*time.Second + 2*d,
		luck:  3 * d,
		begin: set(d),
		end:   set(0),
	}
}

// streams returns a fault under which each connection may have only n streams.
func streams(n uint32) fault {
	return fault{
		name:  fmt.Sprintf("%d streams", n),
		opts:  []etcdtest.Option{etcdtest.WithMaxConcurrentStreams(n)},
		lasts: 4 * time.Second,
	}
}

// save makes the backup, and then raises the revision of etcd by later writes.
func (b *bed) save() {
	var err error
	b.backup, err = b.cluster.Backup()
	b.must(err)

	for range 50 {
		b.write("junk", "x")
	}
}
