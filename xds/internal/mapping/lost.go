package mapping

import (
	"fmt"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// lose notes what xDS cannot say.
func (m *mapping) lose(format string, args ...any) { m.lost[fmt.Sprintf(format, args...)] = true }

// noteLost notes what of a service config xDS cannot say, whatever the endpoints are.
func (p *plan) noteLost() {
	c, e := p.policy.config, p.policy.etcd
	for _, field := range []struct {
		set  bool
		text string
	}{
		{c.RetryThrottling != nil, "retryThrottling: clients retry however many calls fail"},
		{c.HealthCheck != nil, "healthCheckConfig: clients do not watch the health of endpoints"},
		{e.MaxConcurrentRequests > 0, "maxConcurrentRequests: xDS bounds the calls of a cluster, not those at an endpoint, so there is no bound"},
		{e.SlowStart != nil, "slowStart: an endpoint that has just started has its full share at once"},
		{e.ZoneMinPercent > 0, "zoneMinPercent: calls leave a zone only when none of its endpoints is ready"},
		{p.policy.child.Name == serviceconfig.PeakEwmaName, "etcd_peak_ewma: clients go by least_request, the nearest"},
		{len(e.Split) > 0 && p.policy.ringHash() != nil, "an affinity does not choose the group of a split: calls with one are divided as others are"},
		{len(e.Split) > 2, "of a split with more than two groups, the calls of one that cannot be reached go to the one with the greatest share"},
	} {
		if field.set {
			p.lose("%s", field.text)
		}
	}
	for _, m := range c.Methods {
		if isSet(m.WaitForReady) {
			p.lose("waitForReady: a caller says so itself")
		}
		if m.MaxRequestMessageBytes != nil || m.MaxResponseMessageBytes != nil {
			p.lose("maxRequestMessageBytes and maxResponseMessageBytes: a caller limits messages itself")
		}
	}
}

// isSet reports whether an optional bool is there and true.
func isSet(b *bool) bool { return b != nil && *b }
