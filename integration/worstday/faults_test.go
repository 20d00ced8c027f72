package worstday

import (
	"cmp"
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// fault is a column. Comments name the meaning of a zero value; a nil hook does nothing.
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
	down    bool          // nobody can follow etcd while it lasts
	notice  time.Duration // when gRPC's keepalive finds out at the latest; 0: chance decides nothing
	held    bool          // it is about entries on leases; false: about all
	tries   int           // of plain code for a write; 0: 3
	try     time.Duration // of plain code; 0: 2 s
	refuses bool          // etcd answers with a refusal, after which a process tries a write again
	luck    time.Duration // how long a server may take whatever plain code took, as chance or further round trips decide; 0: none
}

// writes and ends are how plain code tries: it gives up an end after 8 s, or if it is refused.
func (f fault) writes() policy { return policy{cmp.Or(f.tries, 3), cmp.Or(f.try, 2*time.Second)} }

func (f fault) ends() policy {
	if f.refuses {
		return policy{1, f.writes().try}
	}
	return policy{min(f.writes().tries, 4), f.writes().try}
}

// faults is the table's columns.
var faults = []fault{
	outage("cut 2s", 2, (*line).cut), outage("cut 4s", 4, (*line).cut), outage("cut 22s", 22, (*line).cut),
	outage("refused 2s", 2, (*line).refuse), outage("refused 4s", 4, (*line).refuse),
	outage("silent 4s", 4, func(l *line, on bool) { l.swallow(on, on) }),
	outage("silent 20s", 20, func(l *line, on bool) { l.swallow(on, on) }),
	outage("one way 4s", 4, func(l *line, on bool) { // the answers of that time never arrive
		if !on {
			l.reset()
		}
		l.swallow(false, on)
	}),
	{name: "resets now and then", lasts: 6 * time.Second,
		during: func(b *bed) {
			for range 8 {
				b.way.all((*line).reset)
				time.Sleep(700 * ms)
			}
		}},
	{name: "etcd stopped 3s", lasts: 3 * time.Second, down: true, tries: 4,
		begin: func(b *bed) { b.cluster.Stop() }, end: func(b *bed) { b.must(b.cluster.Restart()) }},
	hung("a member hangs", false), hung("the leader hangs", true),
	unanswered("one call hangs", 1), unanswered("two calls hang", 2),
	slow("0.15 s", 150*ms), slow("0.6 s", 600*ms), slow("3.5 s", 3500*ms),
	streams(2), streams(4), streams(8),
	{name: "no space 3s", refuses: true, lasts: 3 * time.Second, tries: 4,
		begin: func(b *bed) { b.hold(); b.must(b.cluster.SetNoSpace(context.Background(), true)) },
		end:   func(b *bed) { b.must(b.cluster.SetNoSpace(context.Background(), false)); b.rewrite() }},
	{name: "right taken 4s", refuses: true, user: true, lasts: 4 * time.Second, down: true, tries: 5,
		begin: func(b *bed) {
			_, err := b.judge.RoleRevokePermission(context.Background(), user, "\x00", "\x00")
			b.must(err)
		},
		end: func(b *bed) {
			_, err := b.judge.RoleGrantPermission(context.Background(), user, "\x00", "\x00", clientv3.PermissionType(clientv3.PermReadWrite))
			b.must(err)
		}},
	{name: "token expired", user: true, opts: []etcdtest.Option{etcdtest.WithTokenTTL(time.Second)}, lasts: 3 * time.Second,
		prepare: func(*bed) { time.Sleep(2 * time.Second) }},
	{name: "lease lost", held: true, lasts: time.Second, begin: (*bed).revokeLeases},
	{name: "keys deleted", held: true, lasts: time.Second, begin: (*bed).deleteLeased},
	{name: "wiped", lasts: 3 * time.Second,
		begin: func(b *bed) { b.hold(); b.must(b.cluster.Wipe()) }, end: (*bed).rewrite},
	{name: "restored", lasts: 3 * time.Second,
		prepare: func(b *bed) {
			var err error
			b.backup, err = b.cluster.Backup()
			b.must(err)
			for range 50 { // the restored etcd has an older revision
				b.write("junk", "x")
			}
		},
		begin: func(b *bed) { b.hold(); b.must(b.cluster.RestoreBackup(b.backup)) }, end: (*bed).rewrite},
	{name: "compacted while cut", lasts: 4 * time.Second, down: true, tries: 5,
		begin: func(b *bed) { b.way.all(func(l *line) { l.cut(true) }) },
		end: func(b *bed) {
			b.write("junk", "x")
			_, err := b.cluster.Compact(context.Background())
			b.must(err)
			b.way.all(func(l *line) { l.cut(false) })
		}},
	{name: "restarts in turn", opts: three, lasts: 4 * time.Second,
		during: func(b *bed) {
			for _, m := range b.cluster.Members() {
				b.must(m.Restart())
				time.Sleep(700 * ms)
			}
		}},
}

var three = []etcdtest.Option{etcdtest.WithMembers(3)}

// outage breaks the lines to all members for some seconds. Plain code has tries enough to outlast it.
func outage(name string, lasts int, breaks func(l *line, on bool)) fault {
	set := func(on bool) func(*bed) {
		return func(b *bed) { b.way.all(func(l *line) { breaks(l, on) }) }
	}
	return fault{name: name, lasts: time.Duration(lasts) * time.Second, down: true, tries: lasts/2 + 3, begin: set(true), end: set(false)}
}

// hung makes a member hang, for clients and peers, until gRPC's keepalive has found out. All clients begin on that member; the other
// connections get through when the rows are ready.
func hung(name string, leader bool) fault {
	return fault{name: name, opts: three, lasts: 16 * time.Second, notice: 14 * time.Second, luck: 6 * time.Second,
		early: func(b *bed) {
			lead, err := b.cluster.Leader(context.Background())
			b.must(err)
			for i, m := range b.cluster.Members() {
				if (m == lead) == leader {
					b.target = i
				}
			}
			for i, l := range b.way.lines {
				l.admit(i == b.target)
			}
		},
		prepare: func(b *bed) {
			b.way.all(func(l *line) { l.admit(true) })
			time.Sleep(300 * ms)
			healthy := b.cluster.Admin().Endpoints()
			b.judge.SetEndpoints(append(healthy[:b.target:b.target], healthy[b.target+1:]...)...)
		},
		begin: func(b *bed) { b.way.lines[b.target].swallow(true, true); b.cluster.Member(b.target).PausePeers() },
		end:   func(b *bed) { b.cluster.Member(b.target).ResumePeers(); b.way.lines[b.target].swallow(false, false) }}
}

// unanswered is what a hung member does to a process, without chance: its first unary calls get no answer.
func unanswered(name string, n int) fault {
	set := func(n int) func(*bed) {
		return func(b *bed) { b.eachMeter(func(m *meter) { m.setHang(n) }) }
	}
	return fault{name: name, lasts: 5 * time.Second, begin: set(n), end: set(0)}
}

func slow(name string, d time.Duration) fault {
	set := func(d time.Duration) func(*bed) {
		return func(b *bed) { b.way.all(func(l *line) { l.slow(d) }) }
	}
	return fault{name: "slow by " + name, lasts: 6*time.Second + d, try: 2*time.Second + 2*d, luck: 3 * d, begin: set(d), end: set(0)}
}

func streams(n uint32) fault {
	return fault{name: fmt.Sprintf("%d streams", n), opts: []etcdtest.Option{etcdtest.WithMaxConcurrentStreams(n)}, lasts: 4 * time.Second}
}

func (b *bed) revokeLeases() {
	resp, err := b.judge.Leases(context.Background())
	b.must(err)
	for _, l := range resp.Leases {
		_, err := b.judge.Revoke(context.Background(), l.ID)
		b.must(err)
	}
}

func (b *bed) deleteLeased() {
	resp, err := b.judge.Get(context.Background(), "", clientv3.WithPrefix())
	b.must(err)
	for _, kv := range resp.Kvs {
		if kv.Lease != 0 {
			_, err := b.judge.Delete(context.Background(), string(kv.Key))
			b.must(err)
		}
	}
}
