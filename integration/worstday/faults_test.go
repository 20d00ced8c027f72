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
	begin   func(*bed)    // the operations begin after it
	during  func(*bed)    // runs while the operations run
	end     func(*bed)    // runs when the fault has lasted
	lasts   time.Duration // from begin to end
	hangs   int           // this many unary calls of each client get no answer
	down    bool          // nobody can follow etcd while it lasts
	held    bool          // only entries on leases notice it
	refuses bool          // etcd refuses, after which a process tries a write again
	tries   int           // of plain code for a write; 0: 3
	try     time.Duration // of plain code; 0: 2 s

	// when gRPC's keepalive finds out at the latest; 0: chance decides nothing
	notice time.Duration

	// how long a server may take, whatever plain code took: chance or round
	// trips decide; 0: no time
	luck time.Duration
}

// writes and ends are how plain code tries. It gives up an end after at most 8
// s, or if it is refused.
func (f fault) writes() policy {
	return policy{cmp.Or(f.tries, 3), cmp.Or(f.try, 2*time.Second)}
}

func (f fault) ends() policy {
	if f.refuses {
		return policy{1, 2 * time.Second}
	}

	return policy{min(f.writes().tries, 4), 2 * time.Second}
}

// batch is how many puts plain code has in a transaction: 1 if etcd may refuse
// one of them, for the others must not be lost with it.
func (f fault) batch() int {
	if f.refuses {
		return 1
	}

	return 100
}

// faults is the table's columns. Close gives up after 5 s. So where a process
// ends during an outage, and succeeds after it, the outage lasts at most 3 s.
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

// outage is a fault during which no answer arrives. Plain code tries a write
// often enough to outlast it.
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

// hung makes a member hang, for clients and other members, until gRPC's
// keepalive has found out. All clients begin on that member; they get to the
// others when the rows are ready.
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

// aim chooses the member that will hang.
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

// slow delays all answers. An operation may need three round trips where plain
// code needs one.
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

// streams allows few streams a connection.
func streams(n uint32) fault {
	return fault{
		name:  fmt.Sprintf("%d streams", n),
		opts:  []etcdtest.Option{etcdtest.WithMaxConcurrentStreams(n)},
		lasts: 4 * time.Second,
	}
}

// save makes the backup, which is older than etcd will be.
func (b *bed) save() {
	var err error
	b.backup, err = b.cluster.Backup()
	b.must(err)

	for range 50 {
		b.write("junk", "x")
	}
}
