package balancer

import (
	"math"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

func TestShares_StayingInAZone(t *testing.T) {
	for _, tt := range []struct {
		known, ready int
		percent      uint32
		want         float64
	}{
		{10, 10, 80, 1}, {10, 8, 80, 1}, {10, 5, 80, 0.625}, {10, 2, 80, 0.25}, {10, 0, 80, 0},
		{10, 9, 100, 0.9}, {10, 1, 10, 1}, {10, 1, 1, 1}, {1, 0, 1, 0}, {100_000, 49_999, 50,
			0.99998},
	} {
		if got := staying(tt.percent, tt.ready, tt.known); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("staying(%d%%, %d ready of %d) = %v, want %v", tt.percent, tt.ready, tt.known,
				got, tt.want)
		}
	}
}

// TestShares_OfZonesAndSplitsAreExact checks that each group of a split keeps
// its share while a part of the group's calls leaves the zone.
func TestShares_OfZonesAndSplitsAreExact(t *testing.T) {
	in := inputOf(mustConfig(
		t, `{"preferZone":true,"zoneMinPercent":100,`+byVersion+`}`), planner.Client{Zone: "x"},
		endpointsOf("a v1 x", "b v1 x", "c v1 y", "d v2 x", "e v2 x", "f v2 x", "g v2 x", "h v2 y",
			"z v3 x"))

	p := makePlan(in)
	const n = 10_000
	for _, tt := range []struct {
		ready string
		want  map[string]int
	}{
		{"abcdefghz", map[string]int{"a": 9000, "d": 1000}},
		{"z", map[string]int{"z": 10_000}}, // no endpoint of the groups with a share is ready
		{"acdefh", map[string]int{"a": 4500, "c": 4500, "d": 750, "h": 250}},
		// no endpoint of the other zone is ready
		{"acdef", map[string]int{"a": 4500, "c": 4500, "d": 1000}},
		{"cdefh", map[string]int{"c": 9000, "d": 750, "h": 250}},
		{"defh", map[string]int{"d": 7500, "h": 2500}},
		{"abh", map[string]int{"a": 9000, "h": 1000}},
		{"aBcdEFGh", map[string]int{"a": 9000, "d": 1000}}, // those in upper case connect
	} {
		p.conns = nil
		for _, b := range p.All {
			conn := newConn(b.Endpoint.Addr, new(picking.Stats))
			is := condition{readiness: failing, err: errRefused}

			switch name := b.Endpoint.Instance; {
			case strings.Contains(tt.ready, name):
				is = condition{readiness: ready}
			case strings.Contains(tt.ready, strings.ToUpper(name)):
				is = *untried
			}

			conn.current.Store(&is)
			p.conns = append(p.conns, conn)
		}

		p.base.open()
		s := p.base.makeSnapshot(1, nil)
		got := map[string]int{}
		ofKey := map[string]int{}

		count := func(in map[string]int, w *calloptions.Options) {
			group, leaves := s.chooseGroup(w, &p.sequence)
			set := s.groups[group].sets[0]
			if leaves {
				set = s.groups[group].sets[s.groups[group].rest]
			}

			in[strings.TrimSuffix(set.conns[0].addr, ":1")]++
		}
		for range n {
			count(got, &calloptions.Options{})
			count(ofKey, &calloptions.Options{Affinity: calloptions.Key{Text: "k", Hash: 1 << 62}})
		}

		for name := range got {
			if math.Abs(float64(got[name]-tt.want[name])) > 5 {
				t.Errorf("while %s are ready, %s gets %d of %d calls, want %d", tt.ready, name,
					got[name], n, tt.want[name])
			}
		}

		if tt.ready == "acdefh" && (len(ofKey) != 2 || math.Abs(float64(ofKey["a"]-n/2)) > 5) {
			t.Errorf("calls with one affinity key go to %v, want half to a and half to c, in the two zones of one group", ofKey)
		}
	}
}

// TestShares_WhileAZoneConnects has a group whose calls wait for the client's
// zone. The other group gets no more than its share.
func TestShares_WhileAZoneConnects(t *testing.T) {
	r := newRig(t)
	r.hangs["b:1"] = true
	r.update(`"preferZone":true,`+byVersion, "a v1 y", "b v1 x", "c v2 x")

	got := make(map[string]int)
	for range 100 {
		got[r.where(t.Context())]++
	}

	if got["waits"]+got["c"] != 100 || got["c"] > 20 {
		t.Errorf("calls go to %v, want about 90 to wait, and 10 to go to c", got)
	}
}

// TestShares_UsersStayInTheirGroups changes the groups of a split: users leave
// only a group that is removed or loses weight, or join only a group that is
// added or gains weight.
func TestShares_UsersStayInTheirGroups(t *testing.T) {
	homes := func(weights []uint32) (of []int) {
		s := &snapshot{}
		for id, weight := range weights {
			if weight > 0 {
				s.add(weight, readyGroup{Group: &planner.Group{ID: uint64(id)}, stay: 1})
			}
		}

		for user := range 10_000 {
			group, _ := s.chooseGroup(&calloptions.Options{
				Affinity: calloptions.Of(keyed(user), "").Affinity,
			}, new(picking.Sequence))
			of = append(of, int(s.groups[group].ID))
		}

		return of
	}

	before := homes([]uint32{10, 30, 60, 0})
	for _, tt := range []struct {
		weights []uint32

		// the group that users leave, the group that they join (-1 for any),
		// and how many users move
		from, to, moved int
	}{
		{[]uint32{0, 30, 60, 0}, 0, -1, 1000}, {[]uint32{10, 30, 0, 0}, 2, -1, 6000},
		{[]uint32{10, 30, 60, 100}, -1, 3, 5000}, {[]uint32{20, 30, 60, 0}, -1, 0, 818}, {
			[]uint32{10, 30, 50, 0}, 2, -1, 444},
	} {
		moved := 0
		for user, home := range homes(tt.weights) {
			switch was := before[user]; {
			case home == was:
			case tt.from >= 0 && was != tt.from, tt.to >= 0 && home != tt.to:
				t.Fatalf("weights %v: a user moves from group %d to %d, want moves from %d to %d (-1: any)",
					tt.weights, was, home, tt.from, tt.to)
			default:
				moved++
			}
		}

		if math.Abs(float64(moved-tt.moved)) > 200 {
			t.Errorf("weights %v: %d users move, want %d, give or take 200", tt.weights, moved,
				tt.moved)
		}
	}
}
