package world

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

func (w *World) memberStops(_ context.Context, s schedule.Step) {
	w.stopMember(s.Who)
	time.Sleep(s.For)
	w.startMember(s.Who)
}

func (w *World) memberIsolated(_ context.Context, s schedule.Step) {
	w.etcd.Isolate(s.Who, true)
	time.Sleep(s.For)
	w.etcd.Isolate(s.Who, false)
}

func (w *World) quorumLost(_ context.Context, s schedule.Step) {
	for i := range w.plan.Members {
		w.etcd.Isolate(i, true)
	}
	time.Sleep(s.For)
	for i := range w.plan.Members {
		w.etcd.Isolate(i, false)
	}
}

func (w *World) memberLags(_ context.Context, s schedule.Step) {
	w.etcd.Lag(s.Who, s.Milliseconds())
	time.Sleep(s.For)
	w.etcd.Lag(s.Who, 0)
}

func (w *World) restore(_ context.Context, s schedule.Step) {
	backup := w.etcd.Backup()
	time.Sleep(s.For - s.Milliseconds())
	put := w.etcd.Restore
	if s.Text == schedule.AsNew {
		put = w.etcd.RestoreAsNew
	}
	w.reset(s.Milliseconds(), func() { put(backup) })
}

func (w *World) noSpace(_ context.Context, s schedule.Step) {
	w.etcd.Alarm(true)
	time.Sleep(s.For)
	w.etcd.Alarm(false)
}

func (w *World) rightsRefused(_ context.Context, s schedule.Step) {
	restore := w.rights.refuse(s.Who, s.Text)
	time.Sleep(s.For)
	restore()
}

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
	w.hangAnew()
	live, ok := w.etcd.Get(configKey)
	entries, standing := w.etcd.Entries(prefix), w.etcd.Entries(candidates)
	w.mu.Lock()
	w.noteReset(entries)
	w.noteCandidates(standing)
	w.noteDrain(live.Value, ok)
	w.mu.Unlock()
	w.rights.apply() // a backup has the rights of its time
	w.note("reset to revision %d", w.etcd.Revision())
	for i := range w.plan.Members {
		w.startMember(i)
	}
}

// resetSince reports whether etcd was restored or wiped since a time.
func (w *World) resetSince(at time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.lastReset()
	return !last.IsZero() && !last.Before(at)
}

// lastReset returns when etcd was last restored or wiped, zero if it never was. It must be called with mu held.
func (w *World) lastReset() (at time.Time) {
	if len(w.resets) > 0 {
		at = w.resets[len(w.resets)-1]
	}
	return at
}

// resetHidden reports whether etcd was last restored or wiped while a process had a connection to a member that was a black
// hole. Its client then does not tell it that the others were lost.
func (w *World) resetHidden(process int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.resets) == 0 {
		return false
	}
	at := w.resets[len(w.resets)-1].Sub(w.began)
	return slices.ContainsFunc(w.plan.Steps, func(s schedule.Step) bool {
		return s.Kind == schedule.StalledFromMember && s.Who == process && s.At <= at && at <= s.At+s.For+aftermath
	})
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
		panic(err) // a fault of the world's own
	}
	w.etcd.Serve(i, listener)
}
