package mapping

import (
	"fmt"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// lacks notes a feature that xDS lacks.
func (m *mapping) lacks(format string, args ...any) {
	m.unsupported[fmt.Sprintf(format, args...)] = true
}

// noteUnsupported notes the features of the service config that xDS lacks.
func (p *plan) noteUnsupported() {
	c, e := p.policy.config, p.policy.etcd
	for _, field := range []struct {
		set  bool
		text string
	}{
		{c.RetryThrottling != nil, "retryThrottling: clients do not throttle retries"},
		{c.HealthCheck != nil, "healthCheckConfig: clients do not watch the health of endpoints"},
		{e.MaxConcurrentRequests > 0, "maxConcurrentRequests: xDS limits the calls of a cluster, not those of an endpoint, so there is no limit"},
		{e.SlowStart != nil, "slowStart: a new endpoint has its full share at once"},
		{e.ZoneMinPercent > 0, "zoneMinPercent: calls leave a zone only if none of its endpoints is ready"},
		{p.policy.child.Name == serviceconfig.WeightedRoundRobinName, "weighted_round_robin: clients use round robin"},
		{p.policy.child.Name == serviceconfig.PeakEwmaName, "etcd_peak_ewma: clients use least_request instead"},
		{len(e.Split) > 0 && p.policy.ringHash() != nil, "an affinity does not choose the group of a split: calls with an affinity are split like others"},
		{len(e.Split) > 2, "a split with more than two groups: the calls of an unreachable group go to the group with the greatest share"},
	} {
		if field.set {
			p.lacks("%s", field.text)
		}
	}
	for _, m := range c.Methods {
		if m.WaitForReady != nil && *m.WaitForReady {
			p.lacks("waitForReady: clients have an option of their own")
		}
		if m.MaxRequestMessageBytes != nil || m.MaxResponseMessageBytes != nil {
			p.lacks("maxRequestMessageBytes and maxResponseMessageBytes: clients have options of their own")
		}
	}
}
