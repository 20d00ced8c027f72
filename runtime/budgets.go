package runtime

import (
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"weak"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/descriptors"
)

// budgets holds the budget of connections of each service key that a registry calls. A budget lives as long as a
// gRPC connection that shares it.
type budgets struct {
	limit  int // of each; 0: the default
	logger *slog.Logger

	mu    sync.Mutex
	byKey map[string]weak.Pointer[descriptors.Budget]
}

// of returns the budget of a key, and forgets the budgets that are no longer used if it has to make one.
func (b *budgets) of(key string) *descriptors.Budget {
	b.mu.Lock()
	defer b.mu.Unlock()
	if budget := b.byKey[key].Value(); budget != nil {
		return budget
	}
	maps.DeleteFunc(b.byKey, func(_ string, p weak.Pointer[descriptors.Budget]) bool { return p.Value() == nil })
	if b.byKey == nil {
		b.byKey = make(map[string]weak.Pointer[descriptors.Budget])
	}
	budget := b.make(key)
	b.byKey[key] = weak.Make(budget)
	return budget
}

// make returns a new budget.
func (b *budgets) make(key string) *descriptors.Budget {
	limit, why := b.limit, ""
	if limit <= 0 {
		all := descriptors.Limit()
		limit = descriptors.OfOneService(all)
		why = fmt.Sprintf(", by default a quarter of the %d files that it may open", all)
	}
	err := fmt.Errorf("etcd: no connection to %q is free: this process may have %d%s; see runtime.WithLimits", key, limit, why)
	return descriptors.NewBudget(limit, err, func(missed int) {
		b.logger.Warn("connections to a service are at their limit", loglimit.Attrs(missed, "key", key, "limit", limit)...)
	})
}
