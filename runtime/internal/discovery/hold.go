package discovery

import (
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// peakWindow is the time in which the lost endpoints of a set are counted:
// after an etcd outage, leases expire within a few seconds.
const peakWindow = 5 * time.Second

// hold keeps endpoints that vanish as if etcd had lost its leases. These are
// the last endpoint of a key, or several endpoints that vanish within
// peakWindow and are more than half of the key's. They are held for the
// duration grace, until they are back, or until new endpoints replace them:
// while any is held, the set does not exceed its size before the loss. A single
// endpoint that vanishes among several is dropped at once. Endpoints that their
// owners have marked as leaving are never held, and do not count as lost.
type hold struct {
	grace time.Duration

	until map[string]time.Time // when each held endpoint is dropped, by address

	// the size of the set in etcd before the loss, if any endpoint is held
	size int

	present int // the size of the set in etcd

	// larger sizes within peakWindow, the largest first
	peak []sample
}

// sample is a size that the set had until a time.
type sample struct {
	ended time.Time
	size  int
}

// filter returns the set to use, and records what it holds. truth is the set in
// etcd, merged from items, where an instance may have several ids. published is
// the set in use. Both sets are sorted. withdrawn is that of [marks.apply].
func (h *hold) filter(
	published, truth []*Backend,
	items []*item,
	withdrawn map[string]struct{},
	now time.Time,
) []*Backend {
	h.discount(published, withdrawn)
	h.record(len(truth), now)
	suspicious := h.isSuspicious()

	if len(h.until) == 0 {
		h.size = 0 // of an earlier loss
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

	h.present -= n
	for i := range h.peak {
		h.peak[i].size -= n
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

// record records the size of the set in etcd.
func (h *hold) record(size int, now time.Time) {
	if size < h.present {
		h.peak = append(h.peak, sample{now, h.present})
	}

	h.present = size
	h.peak = slices.DeleteFunc(h.peak, func(s sample) bool {
		return s.size <= size || now.Sub(s.ended) > peakWindow
	})
}

// isSuspicious reports whether the set has lost too many endpoints within
// peakWindow.
func (h *hold) isSuspicious() bool {
	if len(h.peak) == 0 {
		return false
	}

	peak := h.peak[0].size
	lost := peak - h.present

	return h.present == 0 || lost >= 2 && 2*h.present < peak
}
