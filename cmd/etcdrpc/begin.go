package main

import (
	"fmt"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// laneName is the metadata that, by convention, names the lane of an instance.
const laneName = "lane"

// begins reports whether the edit has a live policy say how to balance where none did, so that clients go no more by
// what the proto file says of that.
func (e *edit) begins() bool {
	old, err := parseConfig([]byte(e.oldText()))
	if err == nil && old.namesPolicy() {
		return false
	}
	config, err := parseConfig([]byte(e.new))
	return err == nil && config.namesPolicy()
}

// warnings say what is lost by the edit. They come before all else that is said of it.
func (e *edit) warnings() []string {
	if !e.changes() || !e.begins() {
		return nil
	}
	all := []string{fmt.Sprintf("No live policy said how to balance, and this one takes the place of all that the proto file says of that, which etcd does not hold. "+
		"What it leaves out no longer holds: the policy itself, routes (lanes) and lane_header, prefer_zone and zone_min_percent, "+
		"subset, slow_start, max_concurrent_requests, outlier_detection. It balances by %s. Back to the proto file: etcdrpc policy rm %s",
		balancesBy(e.new), shell(e.key))}
	if policy := livePolicy([]byte(e.new)); e.service != nil && (policy == nil || policy.Route == nil) {
		if names := e.service.merged().laned(); len(names) > 0 {
			all = append(all, fmt.Sprintf("It has no routes, so calls without a lane reach those that say they are in one, too: %s", someOf(names)))
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
	if etcd := livePolicy([]byte(text)); etcd != nil {
		list = etcd.ChildPolicy
	}
	names := make([]string, len(list))
	for n, policy := range list {
		names[n] = policy.Name
	}
	return strings.Join(names, ", ")
}

// laned returns the instances that say which lane they are in.
func (s *service) laned() (names []string) {
	for _, i := range s.instances {
		if i.Metadata[laneName] != "" {
			names = append(names, fmt.Sprintf("%.80s", i.Instance))
		}
	}
	return names
}

// checkNoLanes refuses to begin a live policy without routes for a service whose proto file seems to have some.
func (s *service) checkNoLanes() error {
	names := s.laned()
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("no live policy says how to balance, and one that drain begins has no routes: calls without a lane would reach "+
		"those that say they are in one (%s). Put a policy with the routes of the proto file in force first: etcdrpc policy set %s FILE. "+
		"If it has none, give --no-routes", someOf(names), shell(s.key))
}

// someOf lists names, but not very many.
func someOf(names []string) string {
	const shown = 10
	if len(names) > shown {
		names = append(names[:shown:shown], "…")
	}
	return strings.Join(names, ", ")
}
