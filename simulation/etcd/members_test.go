package etcd

import (
	"fmt"
	"testing"
	"time"
)

// TestMembers walks through what becomes of three members, of which the first leads. Each step is at a second and a
// tenth of one, and says what is to be seen then: who leads, whether things are committed, who sees a leader.
func TestMembers(t *testing.T) {
	began := time.Unix(0, 0)
	cut := func(i int, on bool) func(*members) { return func(m *members) { m.all[i].isolated = on } }
	run := func(i int, on bool) func(*members) { return func(m *members) { m.all[i].running = on } }
	wait := func(*members) {}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"a follower is cut off for a moment", []step{
			{10, cut(1, true), "leader 0, works, 0 1 2 see it"},
			{15, cut(1, false), "leader 0, works, 0 1 2 see it"},
		}},
		{"a follower is cut off", []step{
			{10, cut(1, true), "leader 0, works, 0 1 2 see it"},
			{20, wait, "leader 0, works, 0 2 see it"},
			{90, cut(1, false), "leader 0, works, 0 1 2 see it"},
		}},
		{"the leader is cut off for a moment", []step{
			{10, cut(0, true), "leader 0, stands still, 0 1 2 see it"},
			{19, cut(0, false), "leader 0, works, 0 1 2 see it"},
			{40, wait, "leader 0, works, 0 1 2 see it"},
		}},
		{"the leader is cut off", []step{
			{10, cut(0, true), "leader 0, stands still, 0 1 2 see it"},
			{20, wait, "leader -1, stands still, none see it"},
			{22, wait, "leader 1, works, 1 2 see it"},
			{50, cut(0, false), "leader 1, works, 0 1 2 see it"},
		}},
		{"the leader ends and begins again", []step{
			{10, run(0, false), "leader -1, stands still, 1 2 see it"},
			{22, wait, "leader 1, works, 1 2 see it"},
			{30, run(0, true), "leader 1, works, 0 1 2 see it"},
		}},
		{"quorum is lost", []step{
			{10, cut(1, true), "leader 0, works, 0 1 2 see it"},
			{11, cut(2, true), "leader 0, stands still, 0 1 2 see it"},
			{20, wait, "leader 0, stands still, 0 2 see it"},
			{21, wait, "leader -1, stands still, none see it"},
			{90, cut(2, false), "leader -1, stands still, none see it"},
			{102, wait, "leader 0, works, 0 2 see it"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMembers(3, began, 1, -1)
			m.settle(began)
			for _, s := range tt.steps {
				now := began.Add(s.at * 100 * time.Millisecond)
				s.do(&m)
				m.settle(now)
				m.electDue(now)
				if got := seen(&m, now); got != s.want {
					t.Errorf("at %v: %s; want %s", now.Sub(began), got, s.want)
				}
			}
		})
	}
}

// step is something done after so many tenths of a second, and what is to be seen then.
type step struct {
	at   time.Duration
	do   func(*members)
	want string
}

func seen(m *members, now time.Time) string {
	works, who := "stands still", ""
	if m.working() {
		works = "works"
	}
	for i := range m.all {
		if m.seesLeader(i, now) {
			who += fmt.Sprintf("%d ", i)
		}
	}
	if who == "" {
		who = "none "
	}
	return fmt.Sprintf("leader %d, %s, %ssee it", m.leader, works, who)
}
