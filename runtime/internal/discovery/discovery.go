// Package discovery turns what etcd says of a service key into gRPC resolver state. It knows gRPC
// and nothing of etcd: endpoints and live service configs come to it from a [Source].
//
//	backend.go   an endpoint as gRPC sees it, and the set of them that a key has
//	hold.go      keeping endpoints that vanished suspiciously
//	key.go       one service key: what all its connections share
//	conn.go      one connection: gRPC's resolver for it
package discovery

import "time"

// Source is where the news of one key comes from. Its methods start telling user, beginning with
// what is known if anything is, until stop is called. They do no I/O themselves.
type Source interface {
	Endpoints(user func(Endpoints)) (stop func())
	ServiceConfig(user func(ServiceConfig)) (stop func())
}

// Endpoints is news of the endpoints of a key.
type Endpoints struct {
	Backends    []*Backend // the set, sorted by instance; unchanged backends keep their identity
	Known       bool       // false: nothing is known yet, and Backends is nil
	Provisional bool       // the set may be behind etcd
	Err         error      // why the set cannot be followed now; nil: it is
	Definite    bool       // Err is etcd's own answer, and would be the same if asked again at once
}

// ServiceConfig is news of the live service config of a key.
type ServiceConfig struct {
	JSON  string // "" none
	Known bool   // false: etcd has not said yet whether there is one
}

// Memory keeps the last known endpoints of a key beyond the life of the process.
type Memory interface {
	Load() (backends []*Backend, ok bool)
	Save(backends []*Backend)
}

// Config is what the keys of a registry have in common.
type Config struct {
	EmptyGrace time.Duration // how long endpoints that vanished suspiciously are kept; 0: not at all
}
