// Package check judges what is observed in a simulated world, without I/O, clock or lock.
package check

import (
	"fmt"
	"time"
)

// Rule names what must hold.
type Rule string

// The rules.
const (
	NeverWas   Rule = "no call reaches an instance that never was"
	Unserved   Rule = "a call reaches an instance that serves its method"
	Target     Rule = "a call with a target reaches no other instance"
	Failed     Rule = "no call fails while an instance that serves it is known"
	AtHome     Rule = "no call leaves for another region while home has an instance that serves it"
	Crosses    Rule = "no call fails while home has nobody and another region has"
	Told       Rule = "the error of a call that has nowhere to go says what is missing"
	Gone       Rule = "no call reaches what is drained or has left"
	Forgotten  Rule = "an instance is not forgotten while etcd has it or cannot be asked, nor in the grace after it vanishes"
	Late       Rule = "whoever can reach etcd hears of a change at once"
	SaidIn     Rule = "what was said to be in etcd is there"
	SaidOut    Rule = "what was said to be out of etcd is out"
	Kept       Rule = "what is to be in etcd is put back, and what is not to be is taken out, within 3 s"
	Answers    Rule = "a call that changes etcd succeeds soon where nothing is in its way, and returns what is true"
	Deleted    Rule = "nobody deletes what hangs on a lease of somebody else"
	Fight      Rule = "two processes never fight over a key"
	Listed     Rule = "Instances has what etcd has, and nothing that is only held"
	Timeouts   Rule = "a call waits as its method's config says, and no longer"
	Requests   Rule = "requests to etcd stay under a rate"
	Lines      Rule = "log lines stay under a rate"
	Warned     Rule = "nothing is said to fail that does not"
	Hangs      Rule = "nothing hangs"
	Entries    Rule = "in the end etcd has what is served"
	Readers    Rule = "in the end every reader has what etcd has"
	Shares     Rule = "in the end calls are shared out as configured"
	Bounded    Rule = "in the end an instance has as many calls under way as it may, and a call fails only where all have"
	Lanes      Rule = "in the end calls of a lane reach its instances"
	Status     Rule = "the status is true"
	Reached    Rule = "in the end every caller reaches each instance by name"
	Affine     Rule = "in the end calls of one affinity reach one instance"
	Leads      Rule = "two never lead at a time"
	Guarded    Rule = "what only the leader serves runs on no other"
	Fenced     Rule = "a store takes nothing from an earlier leader once it has heard of a later one, and refuses no leader"
	ToLeader   Rule = "a call for the leader reaches it"
	Stays      Rule = "a leader leads on while nothing keeps it from that"
	HandedOver Rule = "who resigns hands over at once"
	Leaderless Rule = "somebody leads whenever somebody can"
	Led        Rule = "in the end one instance leads, and every caller reaches it"
	HandedIn   Rule = "whatever a caller hands over is used"
	Recalled   Rule = "who starts while etcd is away calls what the last process knew"
	LeftBehind Rule = "nothing is left behind"
)

// Problem is a rule that was broken.
type Problem struct {
	Rule Rule          `json:"rule"`
	At   time.Duration `json:"at"` // since the world began; 0: not known
	Text string        `json:"text"`
}

func (p Problem) String() string {
	if p.At == 0 {
		return fmt.Sprintf("%s: %s", p.Rule, p.Text)
	}
	return fmt.Sprintf("%.3f s: %s: %s", p.At.Seconds(), p.Rule, p.Text)
}
