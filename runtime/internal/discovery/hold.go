package discovery

import (
	"slices"
	"time"
)

// peakWindow is how far back a set's size is compared: leases that expire together after an etcd
// outage do so within a few seconds, not at one instant.
const peakWindow = 5 * time.Second

// hold decides whether endpoints that vanish are given up. The withdrawal of one of several is
// followed at once. When the last one goes, or more than half within a few seconds, it looks like
// an etcd that lost its leases rather than like servers that left, so those that vanish then are
// kept for a grace, or until they are back. It reads no clock.
type hold struct {
	grace time.Duration

	last []*Backend           // as published
	kept map[string]time.Time // until when, by address; all of them are in last
	peak []sample             // recent sizes of the true set, oldest and largest first
}

type sample struct {
	at   time.Time
	size int
}

// filter takes the true set and returns the one to publish, both sorted. recheck, unless zero, is
// when it must be called again with the then true set.
func (h *hold) filter(truth []*Backend, now time.Time) (publish []*Backend, recheck time.Time) {
	suspicious := h.suspicious(len(truth), now)
	if h.grace <= 0 || !suspicious && len(h.kept) == 0 {
		h.last, h.kept = truth, nil
		return truth, time.Time{}
	}
	addrs, instances := make(map[string]bool, len(truth)), make(map[string]bool, len(truth))
	for _, b := range truth {
		addrs[b.Endpoint.Addr], instances[b.Endpoint.Instance] = true, true
	}
	publish = slices.Clone(truth)
	kept := make(map[string]time.Time)
	for _, b := range h.last {
		addr := b.Endpoint.Addr
		if addrs[addr] || instances[b.Endpoint.Instance] {
			continue // alive, if at another address
		}
		until, held := h.kept[addr]
		if !held && suspicious {
			until = now.Add(h.grace)
		}
		if !until.After(now) {
			continue
		}
		kept[addr] = until
		publish = append(publish, b)
		if recheck.IsZero() || until.Before(recheck) {
			recheck = until
		}
	}
	if len(kept) > 0 {
		slices.SortFunc(publish, Compare)
	}
	h.last, h.kept = publish, kept
	return publish, recheck
}

// suspicious tells whether a set of this size, coming now, lost too much at once.
func (h *hold) suspicious(size int, now time.Time) bool {
	oldest := slices.IndexFunc(h.peak, func(s sample) bool { return now.Sub(s.at) <= peakWindow })
	if oldest < 0 {
		oldest = len(h.peak)
		if oldest > 0 {
			oldest-- // the size just before the window is where the window starts
		}
	} else if oldest > 0 {
		oldest--
	}
	h.peak = h.peak[oldest:]
	for len(h.peak) > 0 && h.peak[len(h.peak)-1].size <= size {
		h.peak = h.peak[:len(h.peak)-1]
	}
	h.peak = append(h.peak, sample{now, size})
	peak := h.peak[0].size
	lost := peak - size
	return lost > 0 && (size == 0 || lost >= 2 && 2*size < peak)
}
