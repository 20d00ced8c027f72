package picking

import (
	"context"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// pickFirst sends all calls to the first ready endpoint, and stays with it while it is ready. The policy connects to the
// next only when the previous ones have failed.
type pickFirst struct{ shuffled bool }

func (p pickFirst) Traits() Traits { return Traits{Single: true, Shuffles: p.shuffled} }

func (pickFirst) Pick(_ context.Context, _ *calloptions.Options, s *Set) int { return s.First }
