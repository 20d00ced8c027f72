package steer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// laneName is the metadata that, by convention, names the lane of an instance.
const laneName = "lane"

// Beginning says how a live policy is made where none says how to balance yet.
type Beginning struct {
	Child      string // what it balances by, as [liveconfig.ChildPolicy] reads it
	PreferZone bool
	NoRoutes   bool // it may lack routes, though instances say their lanes
}

// child returns what a config balances by if it does not say so itself yet. It refuses to begin one without routes for
// clients whose proto file seems to have some.
func (b *Beginning) child(clients *survey.Service, c *liveconfig.Config) (json.RawMessage, error) {
	if !c.NamesPolicy() && !b.NoRoutes {
		if err := checkNoLanes(clients); err != nil {
			return nil, err
		}
	}
	return liveconfig.ChildPolicy(b.Child)
}

// begins reports whether the edit has a live policy say how to balance where none did, so that clients go no more by
// what the proto file says of that.
func (e *Edit) begins() bool {
	old, err := liveconfig.Parse([]byte(e.OldText()))
	if err == nil && old.NamesPolicy() {
		return false
	}
	config, err := liveconfig.Parse([]byte(e.New))
	return err == nil && config.NamesPolicy()
}

// Warnings say what is lost by the edit. They come before all else that is said of it.
func (e *Edit) Warnings() []string {
	if !e.Changes() || !e.begins() {
		return nil
	}
	all := []string{fmt.Sprintf("No live policy said how to balance, and this one takes the place of all that the proto file says of that, which etcd does not hold. "+
		"What it leaves out no longer holds: the policy itself, routes (lanes) and lane_header, prefer_zone and zone_min_percent, "+
		"subset, slow_start, max_concurrent_requests, outlier_detection. It balances by %s. Back to the proto file: etcdrpc policy rm %s",
		balancesBy(e.New), output.Shell(e.Key))}
	if policy := liveconfig.Policy([]byte(e.New)); e.Service != nil && (policy == nil || policy.Route == nil) {
		if names := laned(e.Service.Merged()); len(names) > 0 {
			all = append(all, fmt.Sprintf("It has no routes, so calls without a lane reach those that say they are in one, too: %s", output.SomeOf(names)))
		}
	}
	return all
}

// balancesBy names the policies that pick among instances by a live config that is good.
func balancesBy(text string) string {
	config, err := serviceconfig.ParseLive(text)
	if err != nil {
		return "nothing that clients go by"
	}
	list := config.LoadBalancing
	if etcd := liveconfig.Policy([]byte(text)); etcd != nil {
		list = etcd.ChildPolicy
	}
	names := make([]string, len(list))
	for n, policy := range list {
		names[n] = policy.Name
	}
	return strings.Join(names, ", ")
}

// laned returns the instances that say which lane they are in.
func laned(s *survey.Service) (names []string) {
	for _, i := range s.Instances {
		if i.Metadata[laneName] != "" {
			names = append(names, fmt.Sprintf("%.80s", i.Instance))
		}
	}
	return names
}

// ErrNoRoutes is that a live policy would be begun without routes for a service whose proto file seems to have some. It does
// not say how to go on: commands have a flag for it, and pages a box.
var ErrNoRoutes = errors.New("no live policy says how to balance, and one that is begun now has no routes")

// checkNoLanes returns ErrNoRoutes for a service whose instances say their lanes.
func checkNoLanes(s *survey.Service) error {
	names := laned(s)
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("%w: calls without a lane would reach those that say they are in one (%s)", ErrNoRoutes, output.SomeOf(names))
}
