package listwatch

import (
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestSigns goes through what happens to a watch, and says after each event when a sign of life is due, and how it is asked for.
func TestSigns(t *testing.T) {
	const s = time.Second
	type step struct {
		at   time.Duration
		do   func(*signs, time.Time)
		want string // after do
	}
	var dead error
	var (
		nothing = func(*signs, time.Time) {}
		trouble = (*signs).trouble
		still   = (*signs).still
		movedOn = func(l *signs, now time.Time) { l.movedOn(100, now) }
		// A probe finds nothing missed, while etcd owes an answer, and while it need not answer yet.
		probed = func(l *signs, now time.Time) { dead = l.probed(100, 100, now) }
		early  = func(l *signs, now time.Time) { dead = l.probed(100, 101, now) }
		// ... and after another watch has begun on the stream, where etcd has been since.
		later  = func(l *signs, now time.Time) { dead = l.probed(101, 101, now) }
		event  = func(l *signs, now time.Time) { l.heard(false, now) }
		answer = func(l *signs, now time.Time) { l.heard(true, now) }
	)
	for name, steps := range map[string][]step{
		"patience grows with the peace": {
			{4 * s, answer, "progress in 4s"},
			{8 * s, answer, "progress in 8s"},
			{16 * s, answer, "progress in 16s"},
			{32 * s, answer, "progress in 30s"},
			{3600 * s, answer, "progress in 30s"},
			{3610 * s, event, "progress in 30s"},
		},
		"trouble ends the peace": {
			{3600 * s, answer, "progress in 30s"},
			{3601 * s, trouble, "progress in 0s"},
			{3601 * s, answer, "progress in 4s"},
			{3605 * s, answer, "progress in 4s"},
			{3609 * s, answer, "progress in 8s"},
		},
		"a watch on an etcd where nobody writes": {
			{4 * s, nothing, "progress in 0s"},
			{8 * s, nothing, "head in 0s"},
			{8 * s, still, "head in 8s"},
			{16 * s, still, "head in 16s"},
			{60 * s, still, "head in 30s"},
			{90 * s, movedOn, "progress in 0s"},
			{90 * s, answer, "progress in 30s"},
			{120 * s, nothing, "progress in 0s"},
			{124 * s, nothing, "head in 0s"},
		},
		"an event says more than that nobody writes": {
			{8 * s, still, "head in 8s"},
			{9 * s, event, "progress in 9s"},
		},
		"trouble on an etcd where nobody writes": {
			{60 * s, still, "head in 30s"},
			{61 * s, trouble, "progress in 0s"},
			{65 * s, nothing, "head in 0s"},
			{65 * s, still, "head in 4s"},
		},
		"a dead watch": {
			{4 * s, answer, "progress in 4s"},
			{12 * s, movedOn, "progress in 0s"},
			{13 * s, nothing, "progress in 0s"},
			{14 * s, nothing, "probe in 0s"},
			{14 * s, probed, "dead"},
		},
		"a watch that another one keeps from being answered": {
			{4 * s, answer, "progress in 4s"},
			{12 * s, movedOn, "progress in 0s"},
			{14 * s, early, "head in 14s"},
		},
		"a watch that another one has kept from being answered": {
			{4 * s, answer, "progress in 4s"},
			{12 * s, movedOn, "progress in 0s"},
			{14 * s, later, "progress in 0s"},
			{16 * s, later, "dead"},
		},
		"an etcd that has moved on, but not to where another watch began": {
			{8 * s, early, "head in 8s"},
		},
		"an etcd that has moved on since it was asked where it is": {
			{8 * s, probed, "progress in 0s"},
		},
		"a watch behind a proxy": {
			{8 * s, movedOn, "progress in 0s"},
			{10 * s, nothing, "probe in 0s"},
			{10 * s, probed, "probe in 8s"},
			{3600 * s, probed, "probe in 8s"},
			{3601 * s, event, "probe in 8s"},
			{3602 * s, trouble, "probe in 0s"},
			{3603 * s, answer, "progress in 4s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var l signs
			l.begin(start)
			dead = nil
			for _, st := range steps {
				now := start.Add(st.at)
				st.do(&l, now)
				got := dueText(&l, now)
				if errors.Is(dead, errSilent) {
					got = "dead"
				}
				if got != st.want {
					t.Fatalf("after %v: %s, want %s", st.at, got, st.want)
				}
			}
		})
	}
}

func dueText(l *signs, now time.Time) string {
	at, by := l.due(now)
	name := map[call]string{callProgress: "progress", callHead: "head", callProbe: "probe"}[by]
	return fmt.Sprintf("%s in %v", name, max(0, at.Sub(now)))
}

// TestK12_WithoutAConnectionSignsAreFrequent has the watches of a client without a connection asked often.
func TestK12_WithoutAConnectionSignsAreFrequent(t *testing.T) {
	for _, connected := range []bool{false, true} {
		streams := StreamsOf(clientv3.NewCtxClient(t.Context()))
		if connected {
			client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			streams = StreamsOf(client)
		}
		if c := newCore(testSpec(), &Config[string]{Streams: streams}); c.replica.life.often == connected {
			t.Errorf("with a connection %v, often is %v", connected, connected)
		}
	}
}

// TestSignsOfAWatchThatMovesUnseen has it asked as often in peace as after trouble.
func TestSignsOfAWatchThatMovesUnseen(t *testing.T) {
	l := signs{often: true}
	l.begin(start)
	later := start.Add(time.Hour)
	if l.heard(true, later); dueText(&l, later) != "progress in 4s" {
		t.Errorf("after an hour: %s", dueText(&l, later))
	}
}
