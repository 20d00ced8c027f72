package runtime

import (
	"errors"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
)

// Package leader, which stands above this one, finds the elections of registries and servers by this.
func init() {
	election.SourceOf = func(of any) election.Source {
		switch of := of.(type) {
		case *Registry:
			switch {
			case of == nil:
				return nothing{errNil}
			case of.err != nil:
				return nothing{of.err}
			}
			return of.published
		case *Server:
			if of != nil {
				return of.group
			}
		}
		return nothing{errors.New("the server is nil")}
	}
}

// nothing is the source of a registry or server that cannot be used, for a reason.
type nothing struct{ err error }

func (n nothing) Elections(string) ([]*election.Election, <-chan struct{}, error) {
	return nil, nil, n.err
}
