package balancer

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

type fixedPicker struct{}

func (fixedPicker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, nil
}

// BenchmarkPick compares what the policy adds to a pick of the policy below it, which is "below".
// The context is as deep as that of a call with a deadline and metadata.
func BenchmarkPick(b *testing.B) {
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "k", "v"), time.Hour)
	defer cancel()
	info := balancer.PickInfo{Ctx: ctx, FullMethodName: "/helloworld.Greeter/SayHello"}
	p := &policy{stations: newStations("acme/user")}
	below := newPickerOfSubConns(b)
	one := []viewPicker{{groups: []groupPicker{{1, fixedPicker{}}}}}
	three := []viewPicker{{groups: []groupPicker{{5, fixedPicker{}}, {50, fixedPicker{}}, {100, fixedPicker{}}}}}
	rollout := routes{methods: map[string]int{"/helloworld.Greeter/New": 1}, services: map[string]int{"/helloworld.Greeter/": 0}}
	weighted, ewma := newWeightedPicker(fixedSet(100)), newPeakPicker(fixedSet(100))
	for _, bb := range []struct {
		name   string
		picker balancer.Picker
	}{
		{"below", fixedPicker{}},
		{"round_robin of 100", below},
		{"etcd over round_robin of 100", &picker{policy: p, views: []viewPicker{{groups: []groupPicker{{1, below}}}}}},
		{"etcd", &picker{policy: p, views: one}},
		{"etcd, split in three", &picker{policy: p, views: three}},
		{"etcd, in a rollout that adds a method", &picker{policy: p, views: append(one, one...), routes: rollout}},
		{"etcd, a lane", &picker{policy: p, views: append(one, one...), lanes: lanesOfTests}},
		{"etcd_weighted, 100 endpoints", weighted},
		{"etcd_peak_ewma, 100 endpoints", ewma},
	} {
		info := info
		if bb.name == "etcd, a lane" {
			info.Ctx = WithLane(ctx, "red")
		}
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				result, err := bb.picker.Pick(info)
				if err != nil {
					b.Fatal(err)
				}
				if result.Done != nil {
					result.Done(balancer.DoneInfo{BytesReceived: true})
				}
			}
		})
	}
}

// fixedSet returns n endpoints that are ready.
func fixedSet(n int) *readySet {
	s := &readySet{sequence: &sequence{}, stations: newStations("acme/user")}
	for i, ep := range bigFleet(n) {
		s.members = append(s.members, member{fixedPicker{}, uint64(i%5 + 1), ep})
	}
	return s
}

var lanesOfTests = &lanes{
	config: serviceconfig.NewLanes([]serviceconfig.Route{{Lane: "red", Match: map[string]string{"version": "v2"}}}),
	paths:  map[string]lanePaths{"red": {new(routes), []int{1}, theBase}},
}

// TestPickAllocatesNothing pins what the benchmark shows.
func TestPickAllocatesNothing(t *testing.T) {
	ctx := WithAffinity(context.Background(), "k")
	p := &picker{policy: &policy{stations: newStations("acme/user")}, lanes: lanesOfTests, views: []viewPicker{{groups: []groupPicker{{5, newWeightedPicker(fixedSet(3))}, {100, newPeakPicker(fixedSet(3))}}}}}
	p.views = append(p.views, viewPicker{yields: true})
	for _, ctx := range []context.Context{context.Background(), ctx, WithLane(ctx, "red"), WithLane(ctx, "green")} {
		info := balancer.PickInfo{Ctx: ctx, FullMethodName: "/helloworld.Greeter/SayHello"}
		if n := testing.AllocsPerRun(100, func() {
			if result, _ := p.Pick(info); result.Done != nil {
				result.Done(balancer.DoneInfo{BytesReceived: true})
			}
		}); n > 0 {
			t.Errorf("%v allocations a pick", n)
		}
	}
}

// newPickerOfSubConns returns the picker of round_robin over 100 endpoints, as the policy has it.
func newPickerOfSubConns(b *testing.B) balancer.Picker {
	p, cc := newPolicy(b)
	c, err := defaultConfig()
	if err != nil {
		b.Fatal(err)
	}
	fleet := bigFleet(100)
	_ = hand(p, c, &attr.State{Endpoints: fleet})
	settle(p, cc)
	return cc.state.Picker.(*picker).views[0].groups[0].picker
}
