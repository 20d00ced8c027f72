package record

import (
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

func TestDeletedKeysHangOnOwnLeases(t *testing.T) {
	const key = acme.ShopKey + "/a"
	for name, test := range map[string]struct {
		lease  int64 // that the key hangs on
		client string
		wrong  bool
	}{
		"its own":            {1, "first", false},
		"an earlier one":     {2, "first", false},
		"somebody else's":    {3, "first", true},
		"none":               {acme.NoLease, "first", true},
		"by an operator":     {1, "", false},
		"of nobody, a guess": {9, "second", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Record{judge: check.New(time.Now()), leases: make(map[string]int64)}
			r.granted = map[string][]int64{"first": {2, 1}, "second": {3}}
			r.hang(etcd.Change{Key: key, Lease: test.lease, Client: "first"})
			r.hang(etcd.Change{Key: key, Delete: true, Client: test.client})
			if wrong := len(r.judge.Problems) > 0; wrong != test.wrong {
				t.Errorf("problems: %v", r.judge.Problems)
			}
		})
	}
}
