package schedule

import (
	"math/rand/v2"
	"slices"
)

// A chooser fills in the details of a step. It reports false if the world
// cannot have the step.
type chooser func(*rand.Rand, Schedule, *Step) bool

func always(*rand.Rand, Schedule, *Step) bool {
	return true
}

func withOther(_ *rand.Rand, s Schedule, _ *Step) bool {
	return s.Other != nil
}

func ofThree(_ *rand.Rand, s Schedule, _ *Step) bool {
	return s.Members == 3
}

func withAuth(_ *rand.Rand, s Schedule, _ *Step) bool {
	return s.Auth
}

// all returns a chooser that calls choosers in turn, until one of them reports
// false.
func all(choosers ...chooser) chooser {
	return func(r *rand.Rand, s Schedule, step *Step) bool {
		return !slices.ContainsFunc(choosers, func(choose chooser) bool {
			return !choose(r, s, step)
		})
	}
}

func aMember(r *rand.Rand, s Schedule, step *Step) bool {
	step.Who = r.IntN(s.Members)
	return true
}

// someOf chooses the first of n processes as often as all others together, so
// that several faults affect one process.
func someOf(r *rand.Rand, n int) int {
	return r.IntN(2) * r.IntN(n)
}

func aProcess(r *rand.Rand, s Schedule, step *Step) bool {
	step.Who = someOf(r, s.Processes())
	return true
}

func aServer(r *rand.Rand, s Schedule, step *Step) bool {
	step.Who = someOf(r, len(s.Servers))
	return true
}

// aServerThat chooses a server, and reports false if match returns false for
// the server.
func aServerThat(match func(Server) bool) chooser {
	return func(r *rand.Rand, s Schedule, step *Step) bool {
		return aServer(r, s, step) && match(s.Servers[step.Who])
	}
}

func aCaller(r *rand.Rand, s Schedule, step *Step) bool {
	if len(s.Callers) == 0 {
		return false // the other region has no callers
	}

	step.Who = len(s.Servers) + r.IntN(len(s.Callers))

	return true
}

func aCallerThat(match func(Caller) bool) chooser {
	return func(r *rand.Rand, s Schedule, step *Step) bool {
		return aCaller(r, s, step) && match(s.Callers[step.Who-len(s.Servers)])
	}
}

func aWriter(r *rand.Rand, s Schedule, step *Step) bool {
	if len(s.Writers) == 0 {
		return false
	}

	step.Who = len(s.Servers) + len(s.Callers) + r.IntN(len(s.Writers))

	return true
}

// aPair chooses a caller, and a server or a writer.
func aPair(r *rand.Rand, s Schedule, step *Step) bool {
	if len(s.Writers) == 0 || r.IntN(4) > 0 {
		aServer(r, s, step)
	} else {
		aWriter(r, s, step)
	}

	step.Whom = step.Who

	return aCaller(r, s, step)
}

// aRight chooses a right. Only servers in the election get a right on
// candidates.
func aRight(r *rand.Rand, s Schedule, step *Step) bool {
	step.Text = pick(r, []string{Read, Write, ReadConfig, ReadVotes, WriteVotes})
	if step.Text == ReadVotes || step.Text == WriteVotes {
		return aServer(r, s, step) && s.Auth && s.Servers[step.Who].Mode != Register
	}

	return aProcess(r, s, step) && s.Auth
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

func aMethod(r *rand.Rand, s Schedule, step *Step) bool {
	aProcess(r, s, step)

	servers := len(s.Servers)
	callers := len(s.Callers)

	switch {
	case step.Who < servers:
		step.Text = pick(r, serverMethods)
	case step.Who < servers+callers:
		step.Text = pick(r, callerMethods)
	default:
		step.Text = pick(r, writerMethods)
	}

	return true
}

// aRefusal makes etcd reject requests, sometimes because it is busy.
func aRefusal(r *rand.Rand, s Schedule, step *Step) bool {
	aMethod(r, s, step)

	if slices.Contains(refusedWhenBusy, step.Text) && r.IntN(2) == 0 {
		step.N = Busy
	}

	return true
}

func aConfig(r *rand.Rand, s Schedule, step *Step) bool {
	drained := s.Instance(r.IntN(len(s.Servers)))

	switch r.IntN(8) {
	case 0:
		step.Text = Drain(drained)
	case 1:
		step.Text = drawPolicy(r, drained)
	case 2, 3, 4:
		step.Text = drawPolicy(r, "")
	default:
		step.Text = pick(r, policies)
	}

	return true
}

func oneOf(texts ...string) chooser {
	return func(r *rand.Rand, _ Schedule, step *Step) bool {
		step.Text = pick(r, texts)
		return true
	}
}

// number chooses N from first to first+n-1.
func number(first, n int) chooser {
	return func(r *rand.Rand, _ Schedule, step *Step) bool {
		step.N = first + r.IntN(n)
		return true
	}
}

func anotherMember(r *rand.Rand, s Schedule, step *Step) bool {
	step.Whom = r.IntN(s.Members)
	return true
}

// aBackup adds N, the time for which etcd is down, to For, the time until etcd
// stops, and chooses how etcd comes back. It reports false if etcd has
// passwords, because a client that logged in after the backup waits for the
// raft index of its token.
func aBackup(r *rand.Rand, s Schedule, step *Step) bool {
	step.For += step.Milliseconds()
	step.Text = pick(r, []string{"", AsNew, Bumped, Bumped})

	return !s.Auth
}

func aPause(r *rand.Rand, s Schedule, step *Step) bool {
	aServer(r, s, step)

	if s.Servers[step.Who].Mode == Register {
		step.Text = pick(r, []string{"", ForGood})
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
