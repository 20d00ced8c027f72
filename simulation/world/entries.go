package world

import (
	"path"
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
	if e.Key == badKey || strings.Contains(e.Value, leavingMark) {
		return ""
	}
	return addrPattern.FindString(e.Value)
}

// instancePattern finds the instance id in an entry that has it in its value.
var instancePattern = regexp.MustCompile(`"id":"([^"]+)"`)

// leasePattern finds a key that is named by its lease, which is no name for the instance.
var leasePattern = regexp.MustCompile(`/\d+$`)

// entryOf returns what the judge is to know of an entry of a service.
func entryOf(e etcd.Entry) check.Entry {
	var names []string
	if strings.HasPrefix(e.Value, "{") || !leasePattern.MatchString(e.Key) {
		names = append(names, path.Base(e.Key))
	}
	if id := instancePattern.FindStringSubmatch(e.Value); id != nil {
		names = append(names, id[1])
	}
	return check.Entry{
		Service: path.Dir(e.Key), Addr: address(e), Leaving: strings.Contains(e.Value, leavingMark), Names: names,
		Tells: strings.Contains(e.Value, methodsName),
	}
}

// noteEntry has the judge hear of an entry that etcd has from now on, or no longer has if its value is empty.
func (w *World) noteEntry(revision int64, e etcd.Entry) {
	if noted := entryOf(e); noted.Service == shopKey || noted.Service == userKey {
		w.judge.Entry(time.Now(), revision, e.Key, noted)
		w.noted[e.Key] = true
	}
}

// noteReset has the judge hear of the entries that etcd has after it was restored or wiped.
func (w *World) noteReset(entries []etcd.Entry) {
	for key := range w.noted {
		if !slices.ContainsFunc(entries, func(e etcd.Entry) bool { return e.Key == key }) {
			w.noteEntry(0, etcd.Entry{Key: key})
		}
	}
	for _, e := range entries {
		w.noteEntry(0, e)
	}
}

// registered returns the addresses that etcd has for the shop, sorted.
func (w *World) registered() []string {
	var addrs []string
	for _, e := range w.etcd.Entries(shopKey + "/") {
		if addr := address(e); addr != "" {
			addrs = append(addrs, addr)
		}
	}
	slices.Sort(addrs)
	return slices.Compact(addrs)
}

// registeredSince reports whether etcd has had an entry of an address for some time since a time.
func (w *World) registeredSince(at time.Time, addr string) bool {
	if slices.Contains(w.registered(), addr) {
		return true
	}
	has := make(map[string]bool) // by key
	for _, c := range w.since(time.Time{}) {
		if !strings.HasPrefix(c.Key, shopKey+"/") {
			continue
		}
		had := has[c.Key]
		has[c.Key] = !c.Delete && address(etcd.Entry{Key: c.Key, Value: c.Value}) == addr
		if !c.At.Before(at) && (had || has[c.Key]) {
			return true
		}
	}
	return false
}

// registeredThroughout returns the addresses that etcd has had for the shop since a time, without a change of their entries or a
// word that they leave: one of several entries may have no room for it.
func (w *World) registeredThroughout(at time.Time) []string {
	changes := w.since(time.Time{})
	var addrs []string
	for _, e := range w.etcd.Entries(shopKey + "/") {
		addr := address(e)
		changed := func(c etcd.Change) bool {
			return !c.At.Before(at) && (c.Key == e.Key || strings.Contains(c.Value, addr))
		}
		if addr != "" && !slices.ContainsFunc(changes, changed) && !saysItLeaves(changes, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// saysItLeaves reports whether the last entry that was put for an address of the shop says that it leaves.
func saysItLeaves(changes []etcd.Change, addr string) bool {
	for _, c := range slices.Backward(changes) {
		if strings.HasPrefix(c.Key, shopKey+"/") && strings.Contains(c.Value, addr) {
			return address(etcd.Entry{Key: c.Key, Value: c.Value}) == ""
		}
	}
	return false
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
