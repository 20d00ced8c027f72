package picking

import (
	"context"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// pickFirst gives all calls to the first endpoint that is ready, and goes on to while it is. The policy connects to the next
// only when the ones before it have failed.
type pickFirst struct{ shuffled bool }

func (p pickFirst) Traits() Traits { return Traits{Single: true, Shuffles: p.shuffled} }

func (pickFirst) Pick(_ context.Context, _ *calloptions.Options, s *Set) int { return s.First }
