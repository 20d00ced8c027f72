package serviceconfig

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
)

// gRPC's bounds of a retry policy: one attempt is no retry, and it never makes more than five.
const (
	MinAttempts = 2
	MaxAttempts = 5
)

// MaxTokens is gRPC's bound of a retry throttling's tokens.
const MaxTokens = 1000

// Method says how calls of some methods are made.
type Method struct {
	Name                    []MethodName `json:"name"`
	Timeout                 *Duration    `json:"timeout,omitempty"`
	WaitForReady            *bool        `json:"waitForReady,omitempty"`
	MaxRequestMessageBytes  *uint32      `json:"maxRequestMessageBytes,omitempty"`
	MaxResponseMessageBytes *uint32      `json:"maxResponseMessageBytes,omitempty"`
	Retry                   *Retry       `json:"retryPolicy,omitempty"`
}

// MethodName names a method, all methods of a service, or all methods.
type MethodName struct {
	Service string `json:"service,omitempty"`
	Method  string `json:"method,omitempty"`
}

// Retry says when and how often a failed call is made again.
type Retry struct {
	MaxAttempts       uint32   `json:"maxAttempts"` // the first one included
	InitialBackoff    Duration `json:"initialBackoff"`
	MaxBackoff        Duration `json:"maxBackoff"`
	BackoffMultiplier float64  `json:"backoffMultiplier"`
	Codes             []string `json:"retryableStatusCodes"` // as gRPC spells them, so CANCELLED
}

// RetryThrottling stops retries while too many calls fail.
type RetryThrottling struct {
	MaxTokens  float64 `json:"maxTokens"`
	TokenRatio float64 `json:"tokenRatio"`
}

var throttlingFields = fields[RetryThrottling]{
	"maxTokens":  func(t *RetryThrottling, v value) error { return assign(&t.MaxTokens)(v.positive(MaxTokens)) },
	"tokenRatio": func(t *RetryThrottling, v value) error { return assign(&t.TokenRatio)(v.positive(math.Inf(1))) },
}

var methodFields = fields[Method]{
	"name": func(m *Method, v value) error {
		return v.elements("methods", func(v value) error {
			name, err := readName(v)
			m.Name = append(m.Name, name)
			return err
		})
	},
	"timeout":      func(m *Method, v value) error { return set(&m.Timeout)(v.duration(anyPositive)) },
	"waitForReady": func(m *Method, v value) error { return set(&m.WaitForReady)(v.bool()) },
	"maxRequestMessageBytes": func(m *Method, v value) error {
		return set(&m.MaxRequestMessageBytes)(number[uint32](v, 0, math.MaxUint32))
	},
	"maxResponseMessageBytes": func(m *Method, v value) error {
		return set(&m.MaxResponseMessageBytes)(number[uint32](v, 0, math.MaxUint32))
	},
	"retryPolicy": func(m *Method, v value) error { return set(&m.Retry)(readRetry(v)) },
}

var nameFields = fields[MethodName]{
	"service": func(n *MethodName, v value) error { return assign(&n.Service)(readPart(v)) },
	"method":  func(n *MethodName, v value) error { return assign(&n.Method)(readPart(v)) },
}

var retryFields = fields[Retry]{
	"maxAttempts": func(r *Retry, v value) error {
		return assign(&r.MaxAttempts)(number[uint32](v, MinAttempts, MaxAttempts))
	},
	"initialBackoff":    func(r *Retry, v value) error { return assign(&r.InitialBackoff)(v.duration(anyPositive)) },
	"maxBackoff":        func(r *Retry, v value) error { return assign(&r.MaxBackoff)(v.duration(anyPositive)) },
	"backoffMultiplier": func(r *Retry, v value) error { return assign(&r.BackoffMultiplier)(v.positive(math.Inf(1))) },
	"retryableStatusCodes": func(r *Retry, v value) error {
		return v.elements("status codes", func(v value) error {
			code, err := readCode(v)
			if err == nil && !slices.Contains(r.Codes, code) {
				r.Codes = append(r.Codes, code)
			}
			return err
		})
	},
}

// readMethods reads a list of method configs. None may name a method that an earlier one names.
func readMethods(v value) ([]Method, error) {
	methods := []Method{}
	if string(v.raw) == "[]" {
		return methods, nil
	}
	seen := map[MethodName]bool{}
	err := v.elements("methods", func(v value) error {
		m, err := readObject(v, methodFields, "name")
		for _, name := range m.Name {
			if err == nil && seen[name] {
				err = in("name", fmt.Errorf("%s is named twice", name))
			}
			seen[name] = true
		}
		methods = append(methods, m)
		return err
	})
	return methods, err
}

func (n MethodName) String() string {
	if n == (MethodName{}) {
		return "every method"
	}
	return fmt.Sprintf("%.80q", n.Service+"/"+n.Method)
}

func readName(v value) (MethodName, error) {
	n, err := readObject(v, nameFields)
	if err == nil && n.Service == "" && n.Method != "" {
		err = fmt.Errorf("names the method %.80q without its service", n.Method)
	}
	return n, err
}

// readPart reads the name of a service or method. One with a slash would apply to nothing.
func readPart(v value) (string, error) {
	part, err := v.text()
	if err == nil && strings.Contains(part, "/") {
		err = v.wants("a name without slashes")
	}
	return part, err
}

func readRetry(v value) (Retry, error) {
	r, err := readObject(v, retryFields, slices.Sorted(maps.Keys(retryFields))...)
	if err == nil && r.InitialBackoff > r.MaxBackoff {
		err = in("initialBackoff", fmt.Errorf("%v is longer than maxBackoff %v", r.InitialBackoff, r.MaxBackoff))
	}
	return r, err
}

// readCode reads a status code by its name or number.
func readCode(v value) (string, error) {
	var code codes.Code
	if err := code.UnmarshalJSON(v.raw); err != nil || string(v.raw) == "null" {
		return "", v.wants("a status code such as \"UNAVAILABLE\"")
	}
	if code == codes.OK {
		return "", errors.New("OK is no failure: name the codes to try again after")
	}
	return codeName(code), nil
}

// codeName spells a code as gRPC reads it, which differs from how gRPC prints it.
func codeName(code codes.Code) string {
	if code == codes.Canceled {
		return "CANCELLED"
	}
	var name strings.Builder
	for i, r := range code.String() {
		if i > 0 && 'A' <= r && r <= 'Z' {
			name.WriteByte('_')
		}
		name.WriteRune(r)
	}
	return strings.ToUpper(name.String())
}

// checkLive refuses message limits above gRPC's defaults, which protect the caller.
func (m *Method) checkLive() error {
	for _, limit := range []struct {
		field string
		value *uint32
		most  uint32
	}{
		{"maxRequestMessageBytes", m.MaxRequestMessageBytes, defaultMaxRequest},
		{"maxResponseMessageBytes", m.MaxResponseMessageBytes, defaultMaxResponse},
	} {
		if limit.value != nil && *limit.value > limit.most {
			return in(limit.field, fmt.Errorf("%d is above gRPC's default of %d: a live config may lower the limit, not lift it",
				*limit.value, limit.most))
		}
	}
	return nil
}
