package balancer

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/grpc/balancer"
	_ "google.golang.org/grpc/balancer/roundrobin" // the default policy below
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// config is the policy's config, with parts of it in the form that plans need. It can be marshalled and
// parsed again, as gRPC demands of a policy's config.
type config struct {
	grpcserviceconfig.LoadBalancingConfig `json:"-"`
	serviceconfig.Etcd

	child    childConfig
	drained  map[string]struct{} // Drain
	matcher  *serviceconfig.Matcher
	splitKey string // what Split matches, without the weights
	lanes    *serviceconfig.Lanes
	lanesKey string // which endpoints Route puts in which lanes
}

// terms returns what the config asks of every leaf.
func (c *config) terms() terms { return terms{c.MaxConcurrentRequests, c.SlowStart} }

// childConfig is the policy below: the first of a list that is registered in this binary.
type childConfig struct {
	builder balancer.Builder
	config  grpcserviceconfig.LoadBalancingConfig
	text    string // config as JSON
}

func (c *childConfig) name() string { return c.builder.Name() }

// same reports whether c and o configure the same policy in the same way.
func (c *childConfig) same(o *childConfig) bool { return c.name() == o.name() && c.text == o.text }

// defaultConfig returns the config of a policy that was given none.
var defaultConfig = sync.OnceValues(func() (*config, error) { return parseConfig(json.RawMessage("{}")) })

func parseConfig(text json.RawMessage) (*config, error) {
	e, err := serviceconfig.ParseEtcd(text)
	if err != nil {
		return nil, err
	}
	c := &config{Etcd: *e, drained: make(map[string]struct{}, len(e.Drain)), matcher: serviceconfig.NewMatcher(e.Split)}
	if c.child, err = parseChild(e); err != nil {
		return nil, fmt.Errorf("policy %q: childPolicy: %w", Name, err)
	}
	for _, name := range e.Drain {
		c.drained[name] = struct{}{}
	}
	var key strings.Builder
	for _, s := range e.Split {
		key.WriteString(s.Key() + "|")
	}
	c.splitKey = key.String()
	c.lanes = serviceconfig.NewLanes(e.Route)
	c.lanesKey = c.lanes.Key()
	claims.note(e.Claim)
	return c, nil
}

func parseChild(e *serviceconfig.Etcd) (childConfig, error) {
	policy, err := serviceconfig.FirstLinked(e.ChildPolicy, func(name string) bool { return balancer.Get(name) != nil })
	if err != nil {
		return childConfig{}, err
	}
	policy = standIn(policy, e)
	text, err := policy.ConfigJSON()
	if err != nil {
		return childConfig{}, fmt.Errorf("%s: %w", policy.Name, err)
	}
	child := childConfig{builder: balancer.Get(policy.Name), text: string(text)}
	if parser, ok := child.builder.(balancer.ConfigParser); ok {
		parse := func() (err error) { child.config, err = parser.ParseConfig(text); return err }
		if err := recovered(parse); err != nil {
			return childConfig{}, fmt.Errorf("%s: %w", policy.Name, err)
		}
	}
	return child, nil
}
