package harness

import (
	"bytes"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
)

// ofInterest finds the functions of the runtime, and of etcd's client that works for it, in the stack of a goroutine.
var ofInterest = regexp.MustCompile(`(?m)^(?:github\.com/etcdrpc/protoc-gen-go-etcd/(?:internal|runtime|outlierdetection)|go\.etcd\.io/etcd/client/v3)[^\n]*\(`)

const (
	// ofOurs and ofEtcds are how many goroutines of one kind a process may have once all is quiet, on average: four of the runtime's,
	// for two keys, and three of etcd's client, for as many watches and for streams that it keeps.
	ofOurs, ofEtcds = 5, 8
	// dumped is how much of a dump of all goroutines is looked at.
	dumped = 4 << 20
)

// countGoroutines reports kinds of goroutines, by the function that they began with, of which there are more than processes need:
// some have not ended.
func (t *trial) countGoroutines() {
	dump := make([]byte, dumped)
	dump = dump[:runtime.Stack(dump, true)]
	count := make(map[string]int)
	for stack := range bytes.SplitSeq(dump, []byte("\n\n")) {
		if all := ofInterest.FindAll(stack, -1); len(all) > 0 {
			count[string(all[len(all)-1])]++
		}
	}
	servers := 0
	for _, region := range t.regions() {
		servers += len(region.all()) + len(region.callers) + len(region.writers)
	}
	if t.other != nil {
		servers += len(t.callers) // they have two registries
	}
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		most := ofOurs
		if strings.HasPrefix(kind, "go.etcd.io") {
			most = ofEtcds
		}
		if count[kind] > most*servers {
			t.Report(check.LeftBehind, "%d servers, callers and writers have %d goroutines of %s", servers, count[kind], kind)
		}
	}
}
