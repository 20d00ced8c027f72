// Package extension connects package runtime with packages that extend it, such as package leader, so that runtime imports none of
// them: only programs that use an extension link it.
package extension

import (
	"log/slog"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/keepalive"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/registrar"
)

// Host is what a registry gives to extensions. It is safe for concurrent use.
type Host struct {
	Client  *clientv3.Client
	Renewer *keepalive.Renewer // renews leases until the registry is closed
	Keys    *discovery.Keys
	Logger  *slog.Logger
	Why     func(error) error // explains the error of a call to etcd
	State   sync.Map          // what extensions keep for the registry, by keys of their own types
}

// CompanionsOf returns the companions of a service key's entries: see [registrar.Registrar.Companions]. process is a *runtime.Registry or
// a *runtime.Server. Package runtime sets CompanionsOf, so that these types need no exported method.
var CompanionsOf func(process any, key string) (all []registrar.Companion, changed <-chan struct{}, err error)
