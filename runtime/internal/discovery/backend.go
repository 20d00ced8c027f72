package discovery

import (
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// Backend is an endpoint of a service with its form for gRPC, made once for all connections. It is
// immutable.
type Backend struct {
	Endpoint endpoint.Endpoint
	Layout   *endpoint.Layout // that it was read in

	grpc resolver.Endpoint
	room attr.Room // of grpc
}

// NewBackend returns the backend for an endpoint read from etcd.
func NewBackend(e endpoint.Endpoint, layout *endpoint.Layout) *Backend {
	b := &Backend{Endpoint: e, Layout: layout}
	b.grpc = attr.New(&b.Endpoint, &b.room)
	return b
}

// Equal tells whether b and o say the same.
func (b *Backend) Equal(o *Backend) bool {
	return b == o || b.Layout == o.Layout && b.Endpoint.Equal(o.Endpoint)
}

func (b *Backend) endpoint() resolver.Endpoint { return b.grpc }

// address is b for policies that were written before there were endpoints.
func (b *Backend) address() resolver.Address {
	return attr.Address(b.grpc)
}

// resolverEndpoints is how gRPC takes a set of backends.
func resolverEndpoints(backends []*Backend) []resolver.Endpoint {
	return formsOf(backends, nil, nil, (*Backend).endpoint)
}

// formsOf is the form of each of backends, a set that has most in common with an older one whose forms
// are at hand: those before and behind the changes are copied in one go each.
func formsOf[T any](backends, old []*Backend, oldForms []T, form func(*Backend) T) []T {
	n := min(len(backends), len(old))
	before := 0
	for before < n && backends[before] == old[before] {
		before++
	}
	behind := 0
	for behind < n-before && backends[len(backends)-1-behind] == old[len(old)-1-behind] {
		behind++
	}
	forms := make([]T, len(backends))
	copy(forms, oldForms[:before])
	for i := before; i < len(backends)-behind; i++ {
		forms[i] = form(backends[i])
	}
	copy(forms[len(backends)-behind:], oldForms[len(old)-behind:])
	return forms
}

// addresses are a set of backends as addresses, made once for all connections, when the first asks.
type addresses struct {
	once sync.Once
	made atomic.Bool // list is there
	list []resolver.Address

	// What to make the list of, until it is made.
	backends, old []*Backend
	oldList       []resolver.Address // of old
}

func (a *addresses) get() []resolver.Address {
	a.once.Do(func() {
		a.list = formsOf(a.backends, a.old, a.oldList, (*Backend).address)
		a.backends, a.old, a.oldList = nil, nil, nil
		a.made.Store(true)
	})
	return a.list
}

// after are those of the set that comes after old, whose addresses a are; nil where there was none.
func (a *addresses) after(backends, old []*Backend) *addresses {
	next := &addresses{backends: backends}
	if a != nil && a.made.Load() {
		next.old, next.oldList = old, a.list
	}
	return next
}

// Compare is the order of a set: by instance, then address.
func Compare(a, b *Backend) int {
	if a.Endpoint.Instance != b.Endpoint.Instance {
		return strings.Compare(a.Endpoint.Instance, b.Endpoint.Instance)
	}
	return strings.Compare(a.Endpoint.Addr, b.Endpoint.Addr)
}
