package gen

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// checkMethod reports problems of the options of one method, except its affinity.
func checkMethod(s *service, m *method) {
	checkNewer(m.option, m.options.ProtoReflect())
	if takesRetryBack(m.options.GetRetry()) && s.options.GetDefaultMethod().GetRetry() != nil {
		checkTimeout(m.option, m.options)
		return
	}
	checkCalls(m.option, m.options)
}

// takesRetryBack reports whether a method's retry turns off the retry of default_method.
func takesRetryBack(retry *discoveryv1.Retry) bool {
	return proto.Equal(retry, &discoveryv1.Retry{MaxAttempts: 1})
}

// checkDefaultMethod reports problems of default_method, except unknown fields.
func checkDefaultMethod(at position, options *discoveryv1.MethodOptions) {
	checkCalls(at, options)
	if options.GetAffinity() != "" {
		at.in("affinity").problem("belongs to one method, for it names a field of its request: leave it out here")
	}
}

func checkCalls(at position, options *discoveryv1.MethodOptions) {
	checkTimeout(at, options)
	if retry := options.GetRetry(); retry != nil {
		checkRetry(at.in("retry"), retry)
	}
}

func checkTimeout(at position, options *discoveryv1.MethodOptions) {
	if timeout := options.GetTimeout(); timeout != nil {
		checkPositive(at.in("timeout"), timeout)
	}
}

func checkPositive(at position, d *durationpb.Duration) bool {
	if !isDuration(at, d) {
		return false
	}
	if d.AsDuration() <= 0 {
		at.problem("is %s: give it more than zero", durationJSON(d))
		return false
	}
	return checkNotTooLong(at, d)
}

// checkNotTooLong reports a duration that is valid in protobuf, but too long for a service config.
func checkNotTooLong(at position, d *durationpb.Duration) bool {
	if serviceconfig.Duration(d.AsDuration()) > serviceconfig.MaxDuration {
		at.problem("is %s: give it at most %v", durationJSON(d), serviceconfig.MaxDuration)
		return false
	}
	return true
}

func checkRetry(at position, retry *discoveryv1.Retry) {
	missing := missingIn(retry, "a retry")
	checkAttempts(at.in("max_attempts"), retry.GetMaxAttempts(), missing)
	checkBackoffs(at, retry, missing)
	checkAboveZero(at.in("backoff_multiplier"), retry.GetBackoffMultiplier(), missing)
	if len(retry.GetCodes()) == 0 {
		missing(at.in("codes"), "at least one status code, such as CODE_UNAVAILABLE")
	}
	for i, code := range retry.GetCodes() {
		if code == discoveryv1.Code_CODE_OK {
			at.in("codes").index(i).problem("has CODE_OK, which is no failure: name the codes to try again after")
		}
	}
}

func checkAttempts(at position, n uint32, missing func(position, string)) {
	switch least, most := serviceconfig.Bounds[serviceconfig.Retry]("MaxAttempts"); {
	case n == 0:
		missing(at, fmt.Sprintf("from %d to %d", least, most))
	case uint64(n) < least || uint64(n) > most:
		at.problem("is %d: give it %d to %d, the first attempt included", n, least, most)
	}
}

func checkBackoffs(at position, retry *discoveryv1.Retry, missing func(position, string)) {
	first, longest := retry.GetInitialBackoff(), retry.GetMaxBackoff()
	ok := true
	for _, backoff := range []struct {
		at position
		d  *durationpb.Duration
	}{{at.in("initial_backoff"), first}, {at.in("max_backoff"), longest}} {
		if backoff.d == nil {
			missing(backoff.at, "a duration above zero")
			ok = false
			continue
		}
		ok = checkPositive(backoff.at, backoff.d) && ok
	}
	if ok && first.AsDuration() > longest.AsDuration() {
		at.in("initial_backoff").problem("is %s, above max_backoff, which is %s: give it at most that", durationJSON(first), durationJSON(longest))
	}
}

func checkAboveZero(at position, x float64, missing func(position, string)) bool {
	switch {
	case x == 0:
		missing(at, "above zero")
		return false
	case !(x > 0) || math.IsInf(x, 1):
		at.problem("is %v: give it a number above zero", x)
		return false
	}
	return true
}

// checkThrottling reports values that gRPC would reject. gRPC's specification allows three decimals.
func checkThrottling(at position, throttling *discoveryv1.RetryThrottling) {
	missing := missingIn(throttling, "a retry throttling")
	_, most := serviceconfig.Bounds[serviceconfig.RetryThrottling]("MaxTokens")
	switch n := throttling.GetMaxTokens(); {
	case n == 0:
		missing(at.in("max_tokens"), fmt.Sprintf("from 1 to %d", most))
	case uint64(n) > most:
		at.in("max_tokens").problem("is %d: give it 1 to %d", n, most)
	}
	ratio := throttling.GetTokenRatio()
	if !checkAboveZero(at.in("token_ratio"), ratio, missing) {
		return
	}
	text := strconv.FormatFloat(ratio, 'f', -1, 64)
	if _, decimals, _ := strings.Cut(text, "."); len(decimals) > 3 {
		at.in("token_ratio").problem("is %s: give it at most three decimals, more may be ignored", text)
	}
}

// missingIn returns a function that reports a missing field of the message m. what describes the field's values.
func missingIn(m proto.Message, name string) func(field position, what string) {
	return func(field position, what string) {
		if complete(m) {
			field.problem("is missing: %s needs each of its fields, this one %s", name, what)
		}
	}
}
