package balancer

import (
	"google.golang.org/grpc/balancer"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// config is the policy's config, with parts of it in the form that plans need. It can be marshalled and
// parsed again, as gRPC demands of a policy's config.
type config struct {
	grpcserviceconfig.LoadBalancingConfig `json:"-"`
	serviceconfig.Etcd

	way     way          // of picking; nil: the policy below picks
	below   *belowConfig // a policy that is not ours
	drained map[string]struct{}
	matcher *serviceconfig.Matcher // of Split
	lanes   *serviceconfig.Lanes
}

// belowConfig is a policy below that is not ours, and its config.
type belowConfig struct {
	builder balancer.Builder
	config  grpcserviceconfig.LoadBalancingConfig
	text    string // config as JSON
}
