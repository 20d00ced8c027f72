package world

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

var addrPattern = regexp.MustCompile(`10\.\d+\.\d+\.\d+:\d+`)

// address returns the address that an entry names, "" if readers are to skip it.
func address(e etcd.Entry) string {
	if e.Key == badKey || strings.Contains(e.Value, "grpc_leaving") {
		return ""
	}
	return addrPattern.FindString(e.Value)
}

// noteAddress notes the address that a changed key names, and has the judge hear if it named another one before.
func (w *World) noteAddress(c etcd.Change) {
	addr := ""
	if !c.Delete {
		addr = address(etcd.Entry{Key: c.Key, Value: c.Value})
	}
	if before := w.addrs[c.Key]; before != addr {
		w.judge.Absent(c.At, before)
	}
	w.addrs[c.Key] = addr
}

// registered returns the addresses that etcd has for a service, sorted.
func (w *World) registered(key string) []string {
	var addrs []string
	for _, e := range w.etcd.Entries(key + "/") {
		if addr := address(e); addr != "" {
			addrs = append(addrs, addr)
		}
	}
	slices.Sort(addrs)
	addrs = slices.Compact(addrs)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, addr := range addrs {
		w.seen[key+" "+addr] = time.Now()
	}
	return addrs
}

// registeredSince reports whether etcd has had an entry of an address for some time since a time.
func (w *World) registeredSince(at time.Time, addr string) bool {
	return slices.Contains(w.registered(shopKey), addr) || slices.ContainsFunc(w.since(at), func(c etcd.Change) bool {
		return !c.Delete && strings.HasPrefix(c.Key, shopKey+"/") && address(etcd.Entry{Key: c.Key, Value: c.Value}) == addr
	})
}

// certainlyHeld is how long callers certainly hold what vanishes: the grace, less the time until they hear of it.
const certainlyHeld = check.Grace - time.Second

// lately returns the addresses that etcd was seen to have for a service within that time.
func (w *World) lately(key string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var addrs []string
	for seen, at := range w.seen {
		if addr, ok := strings.CutPrefix(seen, key+" "); ok && time.Since(at) < certainlyHeld {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// drainedNames returns the names that the live config drains.
func (w *World) drainedNames() []string {
	live, _ := w.etcd.Get(configKey)
	return w.plan.Drained(live.Value)
}

// noteDrain has the judge hear what a live config drains, if there is one. While it is a bad one, callers keep the last good
// one.
func (w *World) noteDrain(config string, live bool) {
	switch {
	case !live:
		w.judge.Drain(time.Now())
	case !schedule.BadConfig(config):
		w.judge.Drain(time.Now(), w.plan.Drained(config)...)
	}
}
