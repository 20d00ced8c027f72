package gen

import (
	"math"

	"google.golang.org/protobuf/types/known/durationpb"

	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// gRPC's bounds: one attempt is no retry, and it makes no more than five whatever
// it is told.
const (
	minAttempts = 2
	maxAttempts = 5
)

// checkMethod notes what is wrong with the options of one method but for the
// affinity.
func checkMethod(m *method) {
	checkNewer(m.option, m.options.ProtoReflect())
	if timeout := m.options.GetTimeout(); timeout != nil {
		checkPositive(m.option.in("timeout"), timeout)
	}
	if retry := m.options.GetRetry(); retry != nil {
		checkRetry(m.option.in("retry"), retry)
	}
}

func checkPositive(at spot, d *durationpb.Duration) bool {
	if !isDuration(at, d) {
		return false
	}
	if d.AsDuration() <= 0 {
		at.problem("is %s: give it more than zero", durationJSON(d))
		return false
	}
	return true
}

func checkRetry(at spot, retry *discoveryv1.Retry) {
	missing := func(field spot, what string) {
		if complete(retry) {
			field.problem("is missing: a retry needs each of its fields, this one %s", what)
		}
	}
	checkAttempts(at.in("max_attempts"), retry.GetMaxAttempts(), missing)
	checkBackoffs(at, retry, missing)
	checkMultiplier(at.in("backoff_multiplier"), retry.GetBackoffMultiplier(), missing)
	if len(retry.GetCodes()) == 0 {
		missing(at.in("codes"), "at least one status code, such as CODE_UNAVAILABLE")
	}
	for i, code := range retry.GetCodes() {
		if code == discoveryv1.Code_CODE_OK {
			at.in("codes").index(i).problem("has CODE_OK, which is no failure: name the codes to try again after")
		}
	}
}

func checkAttempts(at spot, n uint32, missing func(spot, string)) {
	switch {
	case n == 0:
		missing(at, "from 2 to 5")
	case n < minAttempts || n > maxAttempts:
		at.problem("is %d: give it %d to %d, the first attempt included", n, minAttempts, maxAttempts)
	}
}

func checkBackoffs(at spot, retry *discoveryv1.Retry, missing func(spot, string)) {
	first, longest := retry.GetInitialBackoff(), retry.GetMaxBackoff()
	right := true
	for _, backoff := range []struct {
		at spot
		d  *durationpb.Duration
	}{{at.in("initial_backoff"), first}, {at.in("max_backoff"), longest}} {
		if backoff.d == nil {
			missing(backoff.at, "a duration above zero")
			right = false
			continue
		}
		right = checkPositive(backoff.at, backoff.d) && right
	}
	if right && first.AsDuration() > longest.AsDuration() {
		at.in("initial_backoff").problem("is %s, above max_backoff, which is %s: give it at most that", durationJSON(first), durationJSON(longest))
	}
}

func checkMultiplier(at spot, factor float64, missing func(spot, string)) {
	switch {
	case factor == 0:
		missing(at, "above zero")
	case !(factor > 0) || math.IsInf(factor, 1):
		at.problem("is %v: give it a number above zero", factor)
	}
}
