package lease

import (
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// mixedItems returns the items of an entry: one to three keys, with a mark or without, some of them with the lease's
// id.
func mixedItems(i int, value string) []Item {
	json := item(fmt.Sprint("k", i), value)[0]
	kitex := item(fmt.Sprint("x", i), "x"+value)[0]
	plain := Item{Key: func(clientv3.LeaseID) string { return fmt.Sprint("p", i) }, Value: "addr"}
	zero := Item{Key: func(id clientv3.LeaseID) string { return fmt.Sprintf("z%d/%d", i, id) }, Value: "addr" + value}
	return [][]Item{{json}, {json, kitex, zero}, {zero}, {plain, json}, {zero, json}}[i%5]
}

// Entries have several keys, and are told to change while calls are under way: whatever was said last is what etcd
// has, once it is well.
func TestMixed(t *testing.T) {
	rights := []string{"unreadable", "unwritable", "poison"}
	restores := []string{"backup", "restore"}
	var everything []string
	for _, d := range disturbances {
		everything = append(everything, d.name)
	}
	for _, row := range []struct {
		name    string
		without []string
		within  time.Duration
	}{
		{"late writes alone", everything, 3 * time.Second},
		{"all rights", rights, 100 * time.Second},
		{"no restores", restores, 100 * time.Second},
		{"everything", nil, 100 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			for seed := range uint64(max(1, *worlds/10)) { // each of them takes ten times as long as the others do
				u := newTold(t, seed, 5)
				u.items = mixedItems
				u.during = func() {
					for u.rand.IntN(4) == 0 {
						u.act()
					}
				}
				u.fail = func() int {
					if u.rand.IntN(5) > 0 {
						return 0
					}
					return 1 + u.rand.IntN(3)
				}
				for range 60 {
					u.disturb(row.without...)
					u.run(time.Duration(u.rand.Int64N(int64(2 * time.Second))))
				}
				u.heal()
				for len(u.lates) > 0 {
					u.run(50 * time.Millisecond)
				}
				u.converge(seed, row.within)
				u.peace(seed)
			}
		})
	}
}
