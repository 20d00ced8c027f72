package discovery

import (
	"maps"
	"slices"
	"time"
)

// peakWindow is how far back a set's size is compared: leases that expire together after an etcd
// outage do so within a few seconds, not at one instant.
const peakWindow = 5 * time.Second

// hold decides whether endpoints that vanish are given up. The withdrawal of one of several is
// followed at once. When the last one goes, or more than half within a few seconds, it looks like
// an etcd that lost its leases rather than like servers that left, so those that vanish then are
// kept for a grace, or until they are back. Endpoints whose owners said that they leave are never
// held, and do not count as lost.
type hold struct {
	grace time.Duration

	published []*Backend           // the set published last
	until     map[string]time.Time // when each held endpoint is given up, by address; all of them are in last
	peak      []sample             // recent sizes of the true set, oldest and largest first
}

type sample struct {
	at   time.Time
	size int
}

// filter returns the set to publish for the true set; both are sorted. items are the entries that the
// true set was merged from: an instance that is in several layouts has a name in each. withdrawn holds
// the addresses of endpoints that their owners have withdrawn since the last call. recheck, unless
// zero, is when filter must be called again with the then true set.
func (h *hold) filter(truth []*Backend, items []*item, withdrawn map[string]struct{}, now time.Time) (publish []*Backend, recheck time.Time) {
	h.discount(withdrawn)
	suspicious := h.suspicious(len(truth), now)
	if h.grace <= 0 || !suspicious && len(h.until) == 0 {
		h.published, h.until = truth, nil
		return truth, time.Time{}
	}
	addrs, instances := make(map[string]bool, len(items)), make(map[string]bool, len(items))
	for _, i := range items {
		addrs[i.Value.Endpoint.Addr], instances[i.Value.Endpoint.Instance] = true, true
	}
	publish = slices.Clone(truth)
	kept := make(map[string]time.Time)
	for _, b := range h.published {
		addr := b.Endpoint.Addr
		if _, orderly := withdrawn[addr]; orderly || addrs[addr] || instances[b.Endpoint.Instance] {
			continue // gone for good, or alive, if at another address
		}
		until, held := h.until[addr]
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
		slices.SortFunc(publish, compare)
	}
	h.published, h.until = publish, kept
	return publish, recheck
}

// discount lowers the recent sizes of the set by the published endpoints that were withdrawn.
func (h *hold) discount(withdrawn map[string]struct{}) {
	if len(withdrawn) == 0 {
		return
	}
	n := 0
	for _, b := range h.published {
		addr := b.Endpoint.Addr
		_, orderly := withdrawn[addr]
		if _, held := h.until[addr]; orderly && !held {
			n++
		}
	}
	for i := range h.peak {
		h.peak[i].size = max(0, h.peak[i].size-n)
	}
}

// held returns the addresses of the endpoints that are held: old itself if it has just these.
func (h *hold) held(old map[string]struct{}) map[string]struct{} {
	if len(h.until) == 0 {
		return nil
	}
	held := make(map[string]struct{}, len(h.until))
	for addr := range h.until {
		held[addr] = struct{}{}
	}
	if maps.Equal(held, old) {
		return old
	}
	return held
}

// suspicious reports whether a set of this size, coming now, lost too much at once.
func (h *hold) suspicious(size int, now time.Time) bool {
	oldest := slices.IndexFunc(h.peak, func(s sample) bool { return now.Sub(s.at) <= peakWindow })
	if oldest < 0 {
		oldest = len(h.peak)
	}
	h.peak = h.peak[max(oldest-1, 0):] // the window starts at the size just before it
	for len(h.peak) > 0 && h.peak[len(h.peak)-1].size <= size {
		h.peak = h.peak[:len(h.peak)-1]
	}
	h.peak = append(h.peak, sample{now, size})
	peak := h.peak[0].size
	lost := peak - size
	return lost > 0 && (size == 0 || lost >= 2 && 2*size < peak)
}
