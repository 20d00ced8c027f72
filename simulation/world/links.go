package world

import (
	"context"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// Each fault here disturbs the links of one life. If that life ends meanwhile, it is off the network for good, and the next
// one has healthy links.

// fromEtcd changes the links of a process to all members.
func fromEtcd(link func(schedule.Step) network.Link) fault {
	return func(w *World, _ context.Context, s schedule.Step) {
		_, from := w.process(s.Who).current()
		set := func(l network.Link) {
			w.noteDeaf(from, l)
			for i := range w.plan.Members {
				w.network.Set(from, memberHost(i), l)
			}
		}
		set(link(s))
		time.Sleep(s.For)
		set(network.Link{})
	}
}

// noteDeaf notes whether the link of a life to all members lets nothing through.
func (w *World) noteDeaf(from string, l network.Link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if delete(w.deaf, from); l.Cut || l.Stalled {
		w.deaf[from] = time.Now()
	}
}

// deafSince returns since when a life hears nothing from etcd, zero if it does.
func (w *World) deafSince(from string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.deaf[from]
}

func (w *World) stalledFromMember(_ context.Context, s schedule.Step) {
	_, from := w.process(s.Who).current()
	w.network.Set(from, memberHost(s.Whom), network.Link{Stalled: true})
	time.Sleep(s.For)
	w.network.Set(from, memberHost(s.Whom), network.Link{})
}

func (w *World) resetFromEtcd(_ context.Context, s schedule.Step) {
	_, from := w.process(s.Who).current()
	for i := range w.plan.Members {
		w.network.Reset(from, memberHost(i))
	}
}

// fromServer changes the link between a caller and a server.
func fromServer(link network.Link) fault {
	return func(w *World, _ context.Context, s schedule.Step) {
		_, from := w.process(s.Who).current()
		set := func(l network.Link) {
			w.noteLink(s.Who, from, s.Whom, l)
			w.network.Set(from, w.plan.Host(s.Whom), l)
		}
		set(link)
		time.Sleep(s.For)
		set(network.Link{})
	}
}

func (w *World) resetFromServer(_ context.Context, s schedule.Step) {
	w.observe(func(j *check.Judge) { j.Reset(time.Now(), w.plan.Name(s.Who), w.plan.Name(s.Whom)) })
	_, from := w.process(s.Who).current()
	w.network.Reset(from, w.plan.Host(s.Whom))
}

func (w *World) slowToServers(_ context.Context, s schedule.Step) {
	_, from := w.process(s.Who).current()
	set := func(l network.Link) {
		for i := range w.plan.Processes() {
			w.network.Set(w.plan.Host(i), from, l)
			w.noteLink(s.Who, from, i, l)
		}
	}
	set(network.Link{Delay: s.Milliseconds()})
	time.Sleep(s.For)
	set(network.Link{})
}

// noteLink has the judge hear of the link between a caller and a server, unless the life of the caller that dials from a host
// has ended.
func (w *World) noteLink(caller int, from string, server int, l network.Link) {
	if _, now := w.process(caller).current(); now != from {
		return
	}
	w.observe(func(j *check.Judge) { j.Link(time.Now(), w.plan.Name(caller), w.plan.Name(server), l.Cut, l.Stalled) })
}
