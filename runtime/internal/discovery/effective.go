package discovery

import (
	"fmt"

	"google.golang.org/grpc/resolver"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig/grpccheck"
)

// effectiveConfig is the service config of a connection: the live one over its default one.
type effectiveConfig struct {
	serviceconfig.Wrapped
	live   string
	parsed *grpcserviceconfig.ParseResult
}

// newEffectiveConfig merges a live config into the default one, below, and lets gRPC parse the result. below is "" for a bare
// resolver, which does not know it. live is "" if it was deleted.
func newEffectiveConfig(cc resolver.ClientConn, below, live string) (*effectiveConfig, error) {
	c := &effectiveConfig{Wrapped: serviceconfig.Wrapped{JSON: live}, live: live}
	switch {
	case below != "":
		merged, err := serviceconfig.Merge(below, live)
		if err != nil {
			return nil, err
		}
		if c.Wrapped, err = serviceconfig.Wrap(merged, grpccheck.Registered); err != nil {
			return nil, err
		}
	case live == "":
		c.JSON = "{}"
	}
	var err error
	if c.parsed, err = parse(cc, c.JSON); err == nil {
		err = c.parsed.Err
	}
	return c, err
}

// parse lets gRPC parse a config. It returns an error if a policy panics.
func parse(cc resolver.ClientConn, json string) (result *grpcserviceconfig.ParseResult, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a load balancing policy panicked: %s", printable.Short(fmt.Sprint(p), 200))
		}
	}()
	return cc.ParseServiceConfig(json), nil
}
