package balancer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// known returns endpoints as discovery has them.
func known(endpoints []resolver.Endpoint) []resolver.Endpoint {
	if len(endpoints) == 0 || attr.Endpoint(endpoints[0]) != nil {
		return endpoints
	}
	all := slices.Clone(endpoints)
	for i := range all {
		all[i] = attr.Known(all[i])
	}
	return all
}

// hand hands endpoints down.
func hand(p *policy, c *config, s *attr.State) error {
	s.Endpoints = known(s.Endpoints)
	state := attr.SetState(resolver.State{Endpoints: s.Endpoints}, s)
	cs := balancer.ClientConnState{ResolverState: state}
	if c != nil {
		cs.BalancerConfig = c
	}
	return p.UpdateClientConnState(cs)
}

func addrs(open []*fakeSubConn) string {
	var all []string
	for _, s := range open {
		all = append(all, strings.TrimSuffix(s.addrs[0].Addr, ":1"))
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

// pick makes a pick with the picker in force.
func (c *fakeConn) pick(ctx context.Context, method string) (string, error) {
	c.mu.Lock()
	picker := c.state.Picker
	c.mu.Unlock()
	result, err := picker.Pick(balancer.PickInfo{Ctx: ctx, FullMethodName: method})
	if err != nil {
		return "", err
	}
	return result.SubConn.(*fakeSubConn).addrs[0].Addr, nil
}

func TestPending(t *testing.T) {
	p, cc := newTestPolicy(t)
	client := &attr.Client{}
	none := errors.New("etcd: no endpoint is registered under \"acme/user\"")
	for _, tt := range []struct {
		name  string
		state attr.State
		want  error
		in    connectivity.State
	}{
		{"nothing known", attr.State{Pending: true}, balancer.ErrNoSubConnAvailable, connectivity.Connecting},
		{"none there", attr.State{Err: none}, none, connectivity.TransientFailure},
		{"a bare resolver's empty set", attr.State{}, errors.New(`etcd: no endpoint of "" is known`), connectivity.TransientFailure},
		{"nothing known again", attr.State{Pending: true}, balancer.ErrNoSubConnAvailable, connectivity.Connecting},
	} {
		tt.state.Client = client
		if err := hand(p, nil, &tt.state); err != nil {
			t.Errorf("%s: the update returned %v", tt.name, err)
		}
		_, err := cc.pick(context.Background(), "/s.A/M")
		if err == nil || err.Error() != tt.want.Error() || cc.state.ConnectivityState != tt.in {
			t.Errorf("%s: %v in %v, want %v in %v", tt.name, err, cc.state.ConnectivityState, tt.want, tt.in)
		}
	}
	p.ResolverError(none)
	if _, err := cc.pick(context.Background(), "/s.A/M"); !errors.Is(err, none) {
		t.Errorf("after a resolver's error: %v", err)
	}
	other, cc := newTestPolicy(t)
	other.ResolverError(none)
	if _, err := cc.pick(context.Background(), "/s.A/M"); !errors.Is(err, none) {
		t.Errorf("after a resolver's error before all else: %v", err)
	}
}

func TestReportsAreToldOnce(t *testing.T) {
	var reports []string
	client := &attr.Client{Report: func(problem string) { reports = append(reports, problem) }}
	p, _ := newTestPolicy(t)
	for range 3 {
		_ = hand(p, mustConfig(t, `{"drain":["x"]}`), &attr.State{Client: client, Endpoints: ends("a")})
	}
	if len(reports) != 1 {
		t.Errorf("reported %q", reports)
	}
}
