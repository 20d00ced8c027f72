// Package extension has the interfaces between package runtime and packages
// that extend it, such as package leader. runtime does not import those
// packages, so that only programs that use an extension link it.
package extension

import (
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/keepalive"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/registrar"
)

// Extender is the interface of the Extension in a service's description. Extend
// returns an error if the extension does not fit the service with this name.
type Extender interface {
	Extend(service string) (Hooks, error)
}

// Hooks are what an extension adds to a service. Each may be nil.
type Hooks struct {
	Methods []string // the full names of the methods that the extension handles

	// Companion makes the companion of an entry: see [registrar.Entry]. grace
	// is how long the companion's End may take at most.
	Companion func(
		h *Host,
		e registrar.Entry,
		grace time.Duration,
		changed func(),
	) (registrar.Companion, error)

	// Route returns the routing of a new connection to a service key.
	Route func(h *Host, key string) Routing
}

// Routing routes calls of a connection. The zero value routes none.
type Routing struct {
	Router  discovery.Router
	Methods map[string]bool // the routed methods, by the full name

	// with interceptors outside the runtime's, which see the errors after the
	// runtime has explained them
	Options []grpc.DialOption
}

// Host is what a registry gives to extensions. It is safe for concurrent use.
type Host struct {
	Client  *clientv3.Client
	Renewer *keepalive.Renewer // renews leases until the registry is closed
	Keys    *discovery.Keys
	Logger  *slog.Logger
	Why     func(error) error // explains the error of a call to etcd

	// what extensions keep for the registry, by keys of their own types
	State sync.Map
}

// CompanionsOf returns the companions of the entries that process, a
// *runtime.Registry or *runtime.Server, has under a service key: see
// [registrar.Registrar.Companions]. Package runtime sets CompanionsOf, so that
// these types need no exported method.
var CompanionsOf func(
	process any,
	key string,
) (all []registrar.Companion, changed <-chan struct{}, err error)
