package mapping

import (
	"fmt"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Policy is a parsed service config.
type Policy struct {
	etcd    *planner.Config
	outlier *serviceconfig.OutlierDetection // nil for none

	// the policy that picks an endpoint of a cluster
	child serviceconfig.Policy

	config  *serviceconfig.Config
	methods map[path]*serviceconfig.Method
	limited []string // descriptions of the values that limitValues changed
}

// ReadPolicy parses a service config.
func ReadPolicy(text string) (*Policy, error) {
	wrapped, err := serviceconfig.Wrap(serviceconfig.Known, text)
	if err != nil {
		return nil, err
	}

	config, err := serviceconfig.Parse(wrapped.JSON)
	if err != nil {
		return nil, err
	}

	p := &Policy{config: config, methods: make(map[path]*serviceconfig.Method)}
	for i := range config.Methods {
		for _, name := range config.Methods[i].Name {
			p.methods[path{name.Service, name.Method}] = &config.Methods[i]
		}
	}

	// the result of Wrap is "etcd", or outlier detection with "etcd" below it
	top := config.LoadBalancing[0]
	p.outlier, _ = top.Config.(*serviceconfig.OutlierDetection)
	etcd := top.Etcd()
	p.etcd = planner.NewConfig(etcd)
	p.child = etcd.ChildPolicy[0]
	p.limitValues()

	return p, nil
}

// ringHash returns the config of ring_hash_experimental, nil for another
// policy.
func (p *Policy) ringHash() *serviceconfig.RingHash {
	ring, _ := p.child.Config.(*serviceconfig.RingHash)
	return ring
}

// lacks records a feature that xDS lacks.
func (m *mapping) lacks(format string, args ...any) {
	m.unsupported[fmt.Sprintf(format, args...)] = true
}

// noteUnsupported records the features of the service config that xDS lacks.
func (t *serviceTargets) noteUnsupported() {
	c := t.policy.config
	e := t.policy.etcd
	for _, field := range []struct {
		set  bool
		text string
	}{
		{c.RetryThrottling != nil,
			"retryThrottling: clients do not throttle retries"},
		{c.HealthCheck != nil,
			"healthCheckConfig: clients do not watch the health of endpoints"},
		{e.MaxConcurrentRequests > 0,
			"maxConcurrentRequests: xDS limits the calls of a cluster, not those of an endpoint, so there is no limit"},
		{e.SlowStart != nil,
			"slowStart: a new endpoint has its full share at once"},
		{e.ZoneMinPercent > 0,
			"zoneMinPercent: calls leave a zone only if none of its endpoints is ready"},
		{t.policy.child.Name == serviceconfig.PeakEwmaName,
			"etcd_peak_ewma: clients use least_request instead"},
		{len(e.Split) > 0 && t.policy.ringHash() != nil,
			"an affinity does not choose the group of a split: calls with an affinity are split like others"},
		{len(e.Split) > 2,
			"a split with more than two groups: the calls of an unreachable group go to the group with the greatest share"},
	} {
		if field.set {
			t.lacks("%s", field.text)
		}
	}

	for _, text := range t.policy.limited {
		t.lacks("%s", text)
	}

	for _, m := range c.Methods {
		if m.WaitForReady != nil && *m.WaitForReady {
			t.lacks("waitForReady: clients have an option of their own")
		}

		if m.MaxRequestMessageBytes != nil || m.MaxResponseMessageBytes != nil {
			t.lacks("maxRequestMessageBytes and maxResponseMessageBytes: clients have options of their own")
		}
	}
}
