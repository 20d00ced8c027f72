package schedule

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// kind says how steps of a kind are drawn and told.
type kind struct {
	kind    Kind
	share   int                                    // of all steps, beside the others'
	longest time.Duration                          // the longest For; 0: nothing is undone
	choose  func(*rand.Rand, Schedule, *Step) bool // chooses the rest; false: this world has nothing for it
	takes   func(Schedule, Step) []string          // what no other step may have a hold of meanwhile
	says    func(Schedule, Step) string
}

// catalog holds every kind.
var catalog = []kind{
	{MemberStops, 3, 10 * time.Second, aMember, members, func(_ Schedule, s Step) string { return fmt.Sprintf("member %d stops for %v", s.Who, s.For) }},
	{MemberIsolated, 3, 12 * time.Second, aMemberOfThree, members, func(_ Schedule, s Step) string {
		return fmt.Sprintf("member %d is cut off from the others for %v", s.Who, s.For)
	}},
	{QuorumLost, 2, 12 * time.Second, ofThree, members, func(_ Schedule, s Step) string { return fmt.Sprintf("the quorum is lost for %v", s.For) }},
	{MemberLags, 3, 10 * time.Second, func(r *rand.Rand, s Schedule, step *Step) bool {
		step.N = 50 + r.IntN(4000)
		return aMemberOfThree(r, s, step)
	}, members, func(_ Schedule, s Step) string {
		return fmt.Sprintf("member %d lags by %v for %v", s.Who, milliseconds(s.N), s.For)
	}},
	{LeaderChanges, 2, 0, aMemberOfThree, nothing, func(_ Schedule, s Step) string { return fmt.Sprintf("member %d becomes the leader", s.Who) }},
	{Compaction, 4, 0, always, nothing, func(Schedule, Step) string { return "etcd compacts its history" }},
	{Restore, 3, 20 * time.Second, func(r *rand.Rand, _ Schedule, s *Step) bool {
		s.N = 50 + r.IntN(2000)
		s.For += milliseconds(s.N)
		return true
	}, whole("state"), func(_ Schedule, s Step) string {
		return fmt.Sprintf("etcd is backed up, and restored from that after %v, the last %v of which it is down", s.For, milliseconds(s.N))
	}},
	{Wipe, 1, 2 * time.Second, always, whole("state"), func(_ Schedule, s Step) string {
		return fmt.Sprintf("etcd is down for %v, and wiped meanwhile", s.For)
	}},
	{NoSpace, 2, 8 * time.Second, always, whole("space"), func(_ Schedule, s Step) string { return fmt.Sprintf("etcd has no space for %v", s.For) }},
	{RightsRefused, 4, 10 * time.Second, aRight, onProcess("rights"), func(w Schedule, s Step) string {
		return fmt.Sprintf("%s may not %s for %v", w.Name(s.Who), s.Text, s.For)
	}},
	{TokensExpire, 2, 0, withAuth, nothing, func(Schedule, Step) string { return "all tokens expire" }},

	{AnswersLost, 4, 6 * time.Second, aMethod, onProcess("requests"), func(w Schedule, s Step) string {
		return fmt.Sprintf("for %v etcd carries out the %s requests of %s and does not answer", s.For, s.Text, w.Name(s.Who))
	}},
	{AnswersLate, 4, 8 * time.Second, lateMethod, onProcess("requests"), func(w Schedule, s Step) string {
		return fmt.Sprintf("for %v etcd answers the %s requests of %s after %v", s.For, s.Text, w.Name(s.Who), milliseconds(s.N))
	}},
	{RequestsLate, 5, 8 * time.Second, lateMethod, onProcess("requests"), func(w Schedule, s Step) string {
		return fmt.Sprintf("for %v the %s requests of %s take effect after %v", s.For, s.Text, w.Name(s.Who), milliseconds(s.N))
	}},
	{RequestsFail, 3, 6 * time.Second, aMethod, onProcess("requests"), func(w Schedule, s Step) string {
		return fmt.Sprintf("for %v the %s requests of %s are refused as unavailable", s.For, s.Text, w.Name(s.Who))
	}},

	{CutFromEtcd, 5, 30 * time.Second, aProcess, onProcess("etcd"), func(w Schedule, s Step) string {
		return fmt.Sprintf("%s is cut off from etcd for %v", w.Name(s.Who), s.For)
	}},
	{StalledFromEtcd, 5, 20 * time.Second, aProcess, onProcess("etcd"), func(w Schedule, s Step) string {
		return fmt.Sprintf("etcd is a black hole to %s for %v", w.Name(s.Who), s.For)
	}},
	{StalledFromMember, 3, 20 * time.Second, func(r *rand.Rand, s Schedule, step *Step) bool {
		step.Whom = r.IntN(s.Members)
		return ofThree(r, s, step) && aProcess(r, s, step)
	}, onProcess("etcd"), func(w Schedule, s Step) string {
		return fmt.Sprintf("member %d is a black hole to %s for %v", s.Whom, w.Name(s.Who), s.For)
	}},
	{SlowToEtcd, 3, 15 * time.Second, func(r *rand.Rand, s Schedule, step *Step) bool {
		step.N = 10 + r.IntN(1500)
		return aProcess(r, s, step)
	}, onProcess("etcd"), func(w Schedule, s Step) string {
		return fmt.Sprintf("%s has %v to etcd each way for %v", w.Name(s.Who), milliseconds(s.N), s.For)
	}},
	{ResetFromEtcd, 3, 0, aProcess, nothing, func(w Schedule, s Step) string {
		return fmt.Sprintf("the connections of %s to etcd are reset", w.Name(s.Who))
	}},
	{CutFromServer, 4, 10 * time.Second, aPair, onPair, func(w Schedule, s Step) string {
		return fmt.Sprintf("%s is cut off from %s for %v", w.Name(s.Who), w.Name(s.Whom), s.For)
	}},
	{StalledFromServer, 3, 15 * time.Second, aPair, onPair, func(w Schedule, s Step) string {
		return fmt.Sprintf("%s is a black hole to %s for %v", w.Name(s.Whom), w.Name(s.Who), s.For)
	}},
	{ResetFromServer, 2, 0, aPair, nothing, func(w Schedule, s Step) string {
		return fmt.Sprintf("the connections of %s to %s are reset", w.Name(s.Who), w.Name(s.Whom))
	}},

	{SlowToServers, 6, 40 * time.Second, func(r *rand.Rand, s Schedule, step *Step) bool {
		step.N = 5 + r.IntN(200)
		return aCaller(r, s, step)
	}, onProcess("servers"), func(w Schedule, s Step) string {
		return fmt.Sprintf("%s has %v to every server each way for %v", w.Name(s.Who), milliseconds(s.N), s.For)
	}},

	{EntryDeleted, 4, 0, aServer, nothing, func(w Schedule, s Step) string { return "an operator deletes the entry of " + w.Name(s.Who) }},
	{EntriesDeleted, 1, 0, always, nothing, func(Schedule, Step) string { return "an operator deletes all entries" }},
	{EntryOverwritten, 3, 10 * time.Second, aServer, whole("overwritten"), func(w Schedule, s Step) string {
		return fmt.Sprintf("an operator overwrites the entry of %s, without a lease, for %v", w.Name(s.Who), s.For)
	}},
	{EntryReplaced, 3, 0, aServer, nothing, func(w Schedule, s Step) string {
		return "an operator overwrites the entry of " + w.Name(s.Who) + ", on its lease"
	}},
	{LeaseRevoked, 4, 0, aServer, nothing, func(w Schedule, s Step) string { return "an operator revokes the leases of " + w.Name(s.Who) }},
	{EntryAdded, 2, 15 * time.Second, always, whole("dead"), func(_ Schedule, s Step) string {
		return fmt.Sprintf("an operator adds an entry that nobody serves for %v", s.For)
	}},
	{BadEntryAdded, 2, 15 * time.Second, oneOf(badEntries), whole("bad"), func(_ Schedule, s Step) string {
		return fmt.Sprintf("an operator adds the entry %.40q for %v", s.Text, s.For)
	}},
	{NeighbourAdded, 1, 0, oneOf(neighbours), nothing, func(_ Schedule, s Step) string { return fmt.Sprintf("an operator puts %q beside", s.Text) }},
	{ConfigPut, 9, 0, aConfig, nothing, func(_ Schedule, s Step) string { return "an operator puts the live config " + s.Text }},
	{ConfigDeleted, 2, 0, always, nothing, func(Schedule, Step) string { return "an operator deletes the live config" }},
	{BadConfigPut, 2, 0, oneOf(badConfigs), nothing, func(_ Schedule, s Step) string {
		return fmt.Sprintf("an operator puts the bad live config %q", s.Text)
	}},

	{ServerKilled, 5, 12 * time.Second, func(r *rand.Rand, s Schedule, step *Step) bool {
		step.N = r.IntN(2)
		return aServer(r, s, step)
	}, onProcess("life"), func(w Schedule, s Step) string {
		if s.N == 1 {
			return fmt.Sprintf("%s is killed, and starts at another port after %v", w.Name(s.Who), s.For)
		}
		return fmt.Sprintf("%s is killed, and starts again after %v", w.Name(s.Who), s.For)
	}},
	{ServerRestarts, 6, 10 * time.Second, func(r *rand.Rand, s Schedule, step *Step) bool {
		step.N, step.Text = r.IntN(2), pick(r, []string{"", "", "with the newer method", "without the newer method"})
		return aServer(r, s, step)
	}, onProcess("life"), func(w Schedule, s Step) string {
		again := "again"
		if s.N == 1 {
			again = "at another port"
		}
		if s.Text != "" {
			again += " " + s.Text
		}
		return fmt.Sprintf("%s stops in order, and starts %s after %v", w.Name(s.Who), again, s.For)
	}},
	{ServerPauses, 5, 10 * time.Second, aServer, onProcess("life"), func(w Schedule, s Step) string {
		return fmt.Sprintf("%s leaves etcd for %v", w.Name(s.Who), s.For)
	}},
	{ServerUpdates, 4, 0, func(r *rand.Rand, s Schedule, step *Step) bool {
		step.N = 1 + r.IntN(5)
		return aServer(r, s, step) && s.Servers[step.Who].Mode == Register
	}, nothing, func(w Schedule, s Step) string { return fmt.Sprintf("%s updates its weight to %d", w.Name(s.Who), s.N) }},
	{TwinStarts, 2, 12 * time.Second, func(r *rand.Rand, s Schedule, step *Step) bool {
		return aServer(r, s, step) && s.Servers[step.Who].Named
	}, onProcess("life"), func(w Schedule, s Step) string {
		return fmt.Sprintf("another process takes the instance id of %s for %v", w.Name(s.Who), s.For)
	}},
	{CallerRestarts, 3, 0, aCaller, onProcess("life"), func(w Schedule, s Step) string { return w.Name(s.Who) + " restarts" }},
	{CallerIdles, 2, 12 * time.Second, aCaller, onProcess("life"), func(w Schedule, s Step) string {
		return fmt.Sprintf("%s makes no calls for %v", w.Name(s.Who), s.For)
	}},
	{WriterDies, 3, 12 * time.Second, aWriter, onProcess("life"), func(w Schedule, s Step) string {
		return fmt.Sprintf("%s is killed, and starts again after %v", w.Name(s.Who), s.For)
	}},
}

func milliseconds(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// find returns the kind's entry in the catalog, nil if there is none.
func find(k Kind) *kind {
	for i := range catalog {
		if catalog[i].kind == k {
			return &catalog[i]
		}
	}
	return nil
}

// Kinds returns every kind of step, in the order of the catalog.
func Kinds() []Kind {
	var kinds []Kind
	for _, k := range catalog {
		kinds = append(kinds, k.kind)
	}
	return kinds
}
