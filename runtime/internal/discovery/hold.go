package discovery

import (
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// peakWindow is the time in which the lost endpoints of a set are counted:
// after an etcd outage, leases expire within a few seconds.
const peakWindow = 5 * time.Second

// hold keeps endpoints that vanish as if etcd had lost its leases: the last
// endpoint of a key, or two or more that are more than half of the key's,
// within peakWindow. They are held for the duration grace, until they are back,
// or until new endpoints replace them: while any is held, the set does not
// exceed its size before the loss. A single endpoint that vanishes among
// several is dropped at once. Endpoints that their owners have marked as
// leaving are never held, and do not count as lost.
type hold struct {
	grace time.Duration

	until map[string]time.Time // when each held endpoint is dropped, by address

	// the size of the set in etcd before the loss, if any endpoint is held
	size int

	// recent sizes of the set in etcd, the oldest and largest first
	peak []sample
}

type sample struct {
	at   time.Time
	size int
}

// filter returns the set to publish. truth is the set in etcd, merged from
// items, where an instance may have several ids. published is the set published
// last. Both sets are sorted. withdrawn holds the addresses of endpoints that
// their owners have withdrawn since the last call.
func (h *hold) filter(
	published, truth []*Backend,
	items []*item,
	withdrawn map[string]struct{},
	now time.Time,
) []*Backend {
	h.discount(published, withdrawn)
	suspicious := h.suspicious(len(truth), now)

	if len(h.until) == 0 {
		h.size = 0
	}

	if suspicious {
		h.size = max(h.size, h.peak[0].size)
	}

	missing := h.size - len(truth)
	if h.grace <= 0 || missing <= 0 {
		h.until = nil
		return truth
	}

	addrs := make(map[string]bool, len(items))

	instances := make(map[string]bool, len(items))
	for _, i := range items {
		addrs[i.Value.Endpoint.Addr] = true
		instances[i.Value.Endpoint.Instance] = true
	}

	next := slices.Clone(truth)

	kept := make(map[string]time.Time)
	for _, b := range published {
		addr := b.Endpoint.Addr
		_, orderly := withdrawn[addr]
		if orderly || addrs[addr] || instances[b.Endpoint.Instance] {
			continue // withdrawn, or still in etcd, perhaps at another address
		}

		until, held := h.until[addr]
		if !held && suspicious {
			until = now.Add(h.grace)
		}

		if until.After(now) && len(kept) < missing {
			kept[addr] = until
			next = append(next, b)
		}
	}

	if len(kept) > 0 {
		slices.SortFunc(next, model.Compare)
	}

	h.until = kept

	return next
}

// next returns when to call filter again, zero for never.
func (h *hold) next() (at time.Time) {
	for _, until := range h.until {
		if at.IsZero() || until.Before(at) {
			at = until
		}
	}

	return at
}

// discount subtracts the withdrawn endpoints of published from the recent
// sizes, so that they do not count as lost.
func (h *hold) discount(published []*Backend, withdrawn map[string]struct{}) {
	if len(withdrawn) == 0 {
		return
	}

	n := 0
	for _, b := range published {
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

// held returns the addresses of the held endpoints.
func (h *hold) held() map[string]struct{} {
	if len(h.until) == 0 {
		return nil
	}

	held := make(map[string]struct{}, len(h.until))
	for addr := range h.until {
		held[addr] = struct{}{}
	}

	return held
}

// suspicious records the present size of the set, and reports whether the set
// has lost too many endpoints within peakWindow.
func (h *hold) suspicious(size int, now time.Time) bool {
	oldest := slices.IndexFunc(h.peak, func(s sample) bool {
		return now.Sub(s.at) <= peakWindow
	})
	if oldest < 0 {
		oldest = len(h.peak)
	}

	h.peak = h.peak[max(oldest-1, 0):] // keeps the size at the start of the window
	for len(h.peak) > 0 && h.peak[len(h.peak)-1].size <= size {
		h.peak = h.peak[:len(h.peak)-1]
	}

	h.peak = append(h.peak, sample{now, size})
	peak := h.peak[0].size
	lost := peak - size

	return lost > 0 && (size == 0 || lost >= 2 && 2*size < peak)
}
