package world

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

var addrPattern = regexp.MustCompile(`10\.\d+\.\d+\.\d+:\d+`)

// address returns the address that an entry names, "" if readers are to skip it.
func address(e etcd.Entry) string {
	if e.Key == badKey || strings.Contains(e.Value, "grpc_leaving") {
		return ""
	}
	return addrPattern.FindString(e.Value)
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

// isRegistered reports whether etcd has an entry of an address.
func (w *World) isRegistered(addr string) bool { return slices.Contains(w.registered(shopKey), addr) }

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
