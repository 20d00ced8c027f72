package record

import (
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

func TestDeletedKeysHangOnOwnLeases(t *testing.T) {
	const entry, candidate = acme.ShopKey + "/a", acme.Leaders + "a"
	const own = acme.ShopKey + "/10.2.0.1:9000"
	plan := schedule.New(1)
	former, first, second := plan.DialHost(0, 1), plan.DialHost(0, 2), plan.DialHost(1, 1)
	for name, test := range map[string]struct {
		key    string
		lease  int64 // that the key hangs on
		client string
		wrong  bool
	}{
		"its own":                       {entry, 1, first, false},
		"an earlier one":                {entry, 2, first, false},
		"somebody else's":               {entry, 3, first, true},
		"none":                          {entry, acme.NoLease, first, true},
		"what was put in its place":     {own, acme.NoLease, first, false},
		"what another has put there":    {own, 3, first, false},
		"by an operator":                {entry, 1, "", false},
		"of nobody, a guess":            {entry, 9, second, true},
		"its predecessor's":             {entry, 4, first, false},
		"its predecessor's candidate":   {candidate, 4, first, true},
		"an entry of its successor's":   {entry, 1, former, false},
		"somebody else's predecessor's": {entry, 4, second, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Record{Plan: schedule.Schedule{Servers: make([]schedule.Server, 2)}, judge: check.New(time.Now()), leases: make(map[string]int64)}
			r.granted = map[string][]int64{former: {4}, first: {2, 1}, second: {3}}
			r.hang(etcd.Change{Key: test.key, Lease: test.lease, Client: first})
			r.hang(etcd.Change{Key: test.key, Delete: true, Client: test.client})
			if wrong := len(r.judge.Problems) > 0; wrong != test.wrong {
				t.Errorf("problems: %v", r.judge.Problems)
			}
		})
	}
}
