package runtime

import (
	"errors"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
)

// Package leader, which imports this one, finds the elections of registries and servers by this function.
func init() {
	election.SourceOf = func(of any) election.Source {
		switch of := of.(type) {
		case *Registry:
			switch {
			case of == nil:
				return unusable{errNil}
			case of.err != nil:
				return unusable{of.err}
			}
			return of.published
		case *Server:
			if of != nil {
				return of.group
			}
		}
		return unusable{errors.New("the server is nil")}
	}
}

// unusable is the source of a registry or server that cannot be used, for a reason.
type unusable struct{ err error }

func (u unusable) Elections(string) ([]*election.Election, <-chan struct{}, error) {
	return nil, nil, u.err
}
