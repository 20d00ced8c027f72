// Package extension connects package runtime with packages that extend it, such as package leader, so that runtime imports none of
// them: only programs that use an extension link it.
package extension

import (
	"sync"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

// Host is what a registry gives to extensions. It is safe for concurrent use.
type Host struct {
	Keys  *discovery.Keys
	State sync.Map // what extensions keep for the registry, by keys of their own types
}
