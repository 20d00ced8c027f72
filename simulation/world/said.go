package world

import (
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// found returns the entries of a service that name the server's address.
func (s *server) found(key string) []etcd.Entry {
	_, addr := s.known()
	return slices.DeleteFunc(s.w.etcd.Entries(key+"/"), func(e etcd.Entry) bool { return !strings.Contains(e.Value, addr) })
}

// saidIn checks that the server is in etcd under keys, as a call that began at a time has said. Changes that others have made
// since excuse it.
func (s *server) saidIn(what string, began time.Time, keys ...string) {
	for _, key := range keys {
		if s.touched(key, began) {
			continue
		}
		if lacks := s.lacks(key); lacks != "" {
			id, _ := s.known()
			s.w.report(check.SaidIn, "%s of %s returned nil, and %s: etcd has %v", what, id, lacks, s.found(key))
		}
	}
}

// saidOut checks that the server is out of etcd, as a call that began at a time has said. A server that is cut off cannot know
// what a restore has brought back meanwhile, nor one that has left etcd and takes a connection for well that is a black hole.
func (s *server) saidOut(what string, began time.Time) {
	unaware := began
	if deaf := s.w.deafSince(s.from); !deaf.IsZero() && deaf.Before(began) {
		unaware = deaf
	}
	if s.w.resetSince(unaware) || s.w.resetHidden(s.index) {
		return
	}
	for _, key := range s.keys() {
		// A restored etcd may have brought back what a life before this one had.
		found := slices.DeleteFunc(s.found(key), func(e etcd.Entry) bool { return !s.w.leasesOf(s.from)[e.Lease] })
		if len(found) > 0 {
			s.w.report(check.SaidOut, "%s of %s returned nil, and etcd has %v", what, s.id, found)
		}
	}
	if addr, left := s.addr, time.Now(); s.marks() && !s.hindered(began) {
		s.w.soon(s.id+" has left", func(k runtime.KeyStatus) bool {
			return !slices.Contains(addrsOf(k.Endpoints), addr) || s.w.registeredSince(left, addr)
		})
	}
}

// hindered reports whether etcd may have refused a mark that the server has put since a time, and does not have it. The server
// then leaves without one, and callers may hold it.
func (s *server) hindered(since time.Time) bool {
	at := since.Sub(s.w.began)
	mark := func(c etcd.Change) bool {
		return c.Client == s.from && strings.HasPrefix(c.Key, shopKey+"/") && strings.Contains(c.Value, leavingMark)
	}
	if slices.ContainsFunc(s.w.since(since), mark) {
		return false
	}
	full := func(step schedule.Step) bool {
		return step.Kind == schedule.NoSpace && step.At+step.For > at && step.At < time.Since(s.w.began)
	}
	own := func(c etcd.Change) bool { return c.Client == s.from && strings.HasPrefix(c.Key, shopKey+"/") }
	if !slices.ContainsFunc(s.w.since(since), own) {
		return true // its entry was gone already
	}
	return s.w.etcd.Full() || slices.ContainsFunc(s.w.plan.Steps, full) || s.w.faulty(s.index, at, time.Since(s.w.began), toAll, toOne)
}

// marks reports whether the server's entries have room for a mark that it leaves.
func (s *server) marks() bool {
	return !slices.Contains(s.spec.Layouts, schedule.Plain) && !slices.Contains(s.spec.Layouts, schedule.GoZero)
}

// touched reports whether anything but the server itself has changed entries of a service since a time.
func (s *server) touched(key string, since time.Time) bool {
	return s.w.resetSince(since) || slices.ContainsFunc(s.w.since(since), func(c etcd.Change) bool {
		return c.Client != s.from && strings.HasPrefix(c.Key, key+"/")
	})
}
