package harness

import (
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
)

// ofInterest are the packages of the runtime, and those of etcd's client that works for it.
var ofInterest = []string{
	"github.com/etcdrpc/protoc-gen-go-etcd/internal",
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime",
	"github.com/etcdrpc/protoc-gen-go-etcd/outlierdetection",
	"go.etcd.io/etcd/client/v3",
}

const (
	// ofOurs and ofEtcds are how many goroutines of one kind a process may have once all is quiet, on average: four of the runtime's,
	// for two services, live configs and candidates, beside one for each key that it has put; and three of etcd's client, for as many
	// watches and for streams that it keeps.
	ofOurs, ofEtcds = 4, 8
	// dumped is how much of a dump of all goroutines is looked at, at the most.
	dumped = 4 << 20
)

// beganWith returns the first function of interest that a goroutine called, "" if there is none in its stack.
func beganWith(stack string) string {
	lines := strings.Split(stack, "\n")
	for _, line := range slices.Backward(lines) {
		if slices.ContainsFunc(ofInterest, func(prefix string) bool { return strings.HasPrefix(line, prefix) }) {
			return line[:strings.LastIndexByte(line, '(')+1]
		}
	}
	return ""
}

// dump describes all goroutines.
func dump() string {
	for size := dumped / 16; ; size *= 2 {
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size || size == dumped {
			return string(b[:n])
		}
	}
}

// countGoroutines reports kinds of goroutines, by the function that they began with, of which there are more than processes need:
// some have not ended.
func (t *trial) countGoroutines() {
	count := make(map[string]int)
	for stack := range strings.SplitSeq(dump(), "\n\n") {
		if kind := beganWith(stack); kind != "" {
			count[kind]++
		}
	}
	servers, put := 0, 0
	for _, region := range t.regions() {
		for _, s := range region.all() {
			put += len(s.keys()) * len(s.layouts())
			if s.elects() {
				put++
			}
		}
		servers += len(region.all()) + len(region.callers) + len(region.writers)
	}
	if t.other != nil {
		servers += len(t.callers) // they have two registries
	}
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		most := ofOurs*servers + put
		if strings.HasPrefix(kind, "go.etcd.io") {
			most = ofEtcds * servers
		}
		if count[kind] > most {
			t.report(check.LeftBehind, "%d servers, callers and writers have %d goroutines of %s", servers, count[kind], kind)
		}
	}
}
