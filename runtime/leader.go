package runtime

import (
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/registrar"
)

// Package leader, which stands above this one, finds the elections of registries and servers by this.
func init() {
	election.SourceOf = func(of any) election.Source {
		switch of := of.(type) {
		case *Registry:
			if of != nil && of.published != nil {
				return of.published
			}
		case *Server:
			if of != nil {
				return of.group
			}
		}
		return nothing{}
	}
}

// nothing is the source of a nil registry or server.
type nothing struct{}

func (nothing) Elections(string) ([]*election.Election, <-chan struct{}, error) {
	return nil, nil, registrar.ErrClosed
}
