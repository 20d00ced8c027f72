package schedule

import (
	"math/rand/v2"
	"slices"
)

// draft is a step that is being drawn for a world.
type draft struct {
	*rand.Rand
	Schedule
	*Step
}

// A chooser fills in the details of a step. It reports false if the world
// cannot have the step.
type chooser func(*draft) bool

func always(*draft) bool {
	return true
}

func withOther(d *draft) bool {
	return d.Other != nil
}

func ofThree(d *draft) bool {
	return d.Members == 3
}

func withAuth(d *draft) bool {
	return d.Auth
}

// all returns a chooser that calls choosers in turn, until one of them reports
// false.
func all(choosers ...chooser) chooser {
	return func(d *draft) bool {
		return !slices.ContainsFunc(choosers, func(choose chooser) bool {
			return !choose(d)
		})
	}
}

func aMember(d *draft) bool {
	d.Who = d.IntN(d.Members)
	return true
}

// someOf chooses the first of n processes as often as all others together, so
// that several faults affect one process.
func someOf(r *rand.Rand, n int) int {
	return r.IntN(2) * r.IntN(n)
}

func aProcess(d *draft) bool {
	d.Who = someOf(d.Rand, d.Processes())
	return true
}

func aServer(d *draft) bool {
	d.Who = someOf(d.Rand, len(d.Servers))
	return true
}

// aServerThat chooses a server, and reports false if match returns false for
// the server.
func aServerThat(match func(Server) bool) chooser {
	return func(d *draft) bool {
		return aServer(d) && match(d.Servers[d.Who])
	}
}

func aCaller(d *draft) bool {
	if len(d.Callers) == 0 {
		return false // the other region has no callers
	}

	d.Who = len(d.Servers) + d.IntN(len(d.Callers))

	return true
}

func aCallerThat(match func(Caller) bool) chooser {
	return func(d *draft) bool {
		return aCaller(d) && match(d.Callers[d.Who-len(d.Servers)])
	}
}

func aWriter(d *draft) bool {
	if len(d.Writers) == 0 {
		return false
	}

	d.Who = len(d.Servers) + len(d.Callers) + d.IntN(len(d.Writers))

	return true
}

// aPair chooses a caller, and a server or a writer.
func aPair(d *draft) bool {
	if len(d.Writers) == 0 || d.IntN(4) > 0 {
		aServer(d)
	} else {
		aWriter(d)
	}

	d.Whom = d.Who

	return aCaller(d)
}

// aRight chooses a right. Only servers in the election get a right on
// candidates.
func aRight(d *draft) bool {
	d.Text = pick(d.Rand, []string{Read, Write, ReadConfig, ReadVotes, WriteVotes})
	if d.Text == ReadVotes || d.Text == WriteVotes {
		return aServer(d) && d.Auth && d.Servers[d.Who].Mode != Register
	}

	return aProcess(d) && d.Auth
}

// The methods of etcd that each kind of process calls.
var (
	serverMethods = []string{
		"Txn", "Txn", "LeaseGrant", "LeaseRevoke", "LeaseKeepAlive", "LeaseTimeToLive",
		AnyWrite, AnyMethod,
	}
	callerMethods = []string{"Range", AnyMethod}
	writerMethods = []string{"Put", "LeaseGrant", "LeaseKeepAlive", AnyMethod}
)

// refusedWhenBusy lists the methods that etcd rejects when it has too many
// requests.
var refusedWhenBusy = []string{"Txn", "Put", "LeaseGrant", "LeaseRevoke", AnyWrite}

func aMethod(d *draft) bool {
	aProcess(d)

	servers := len(d.Servers)
	callers := len(d.Callers)

	switch {
	case d.Who < servers:
		d.Text = pick(d.Rand, serverMethods)
	case d.Who < servers+callers:
		d.Text = pick(d.Rand, callerMethods)
	default:
		d.Text = pick(d.Rand, writerMethods)
	}

	return true
}

// aRefusal makes etcd reject requests, sometimes because it is busy.
func aRefusal(d *draft) bool {
	aMethod(d)

	if slices.Contains(refusedWhenBusy, d.Text) && d.IntN(2) == 0 {
		d.N = Busy
	}

	return true
}

func aConfig(d *draft) bool {
	drained := d.Instance(d.IntN(len(d.Servers)))

	switch d.IntN(8) {
	case 0:
		d.Text = Drain(drained)
	case 1:
		d.Text = drawPolicy(d.Rand, drained)
	case 2, 3, 4:
		d.Text = drawPolicy(d.Rand, "")
	default:
		d.Text = pick(d.Rand, policies)
	}

	return true
}

func oneOf(texts ...string) chooser {
	return func(d *draft) bool {
		d.Text = pick(d.Rand, texts)
		return true
	}
}

// number chooses N from first to first+n-1.
func number(first, n int) chooser {
	return func(d *draft) bool {
		d.N = first + d.IntN(n)
		return true
	}
}

func anotherMember(d *draft) bool {
	d.Whom = d.IntN(d.Members)
	return true
}

// aBackup adds N, the time for which etcd is down, to For, the time until etcd
// stops, and chooses how etcd comes back. It reports false if etcd has
// passwords, because a client that logged in after the backup waits for the
// raft index of its token.
func aBackup(d *draft) bool {
	d.For += d.Milliseconds()
	d.Text = pick(d.Rand, []string{"", AsNew, Bumped, Bumped})

	return !d.Auth
}

func aPause(d *draft) bool {
	aServer(d)

	if d.Servers[d.Who].Mode == Register {
		d.Text = pick(d.Rand, []string{"", ForGood})
	}

	return true
}

// Conditions on the processes of some steps.

func registers(v Server) bool {
	return v.Mode == Register
}

func serves(v Server) bool {
	return v.Mode == Serve
}

func isNamed(v Server) bool {
	return v.Named
}

func keepsSnapshots(c Caller) bool {
	return c.Snapshots
}

// keepsNothing reports whether the caller knows only entries read from etcd.
func keepsNothing(c Caller) bool {
	return !c.Snapshots
}
