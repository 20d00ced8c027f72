package serviceconfig

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"
)

// Method configures the calls of some methods.
type Method struct {
	Name                    []MethodName `json:"name" of:"methods" required:"true"`
	Timeout                 *Duration    `json:"timeout,omitempty" positive:"true"`
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

// Retry configures when and how often a failed call is retried. gRPC makes at
// most five attempts.
type Retry struct {
	// including the first
	MaxAttempts uint32 `json:"maxAttempts" required:"true" min:"2" max:"5"`

	InitialBackoff    Duration `json:"initialBackoff" required:"true" positive:"true"`
	MaxBackoff        Duration `json:"maxBackoff" required:"true" positive:"true"`
	BackoffMultiplier float64  `json:"backoffMultiplier" required:"true" positive:"true"`
	Codes             []Code   `json:"retryableStatusCodes" of:"status codes" required:"true" max:"16"`
}

// RetryThrottling stops retries while too many calls fail.
type RetryThrottling struct {
	MaxTokens  float64 `json:"maxTokens" required:"true" positive:"true" max:"1000"`
	TokenRatio float64 `json:"tokenRatio" required:"true" positive:"true"`
}

// Code is the name of a status code, as gRPC reads it: CANCELLED, although gRPC
// prints Canceled.
type Code string

func (n MethodName) String() string {
	if n == (MethodName{}) {
		return "every method"
	}

	return fmt.Sprintf("%.80q", n.Service+"/"+n.Method)
}

// check rejects a name with a slash, which would match no method.
func (n *MethodName) check(p place) {
	if strings.Contains(n.Service, "/") {
		p.in("service").wants("a name without slashes", n.Service)
	}

	if strings.Contains(n.Method, "/") {
		p.in("method").wants("a name without slashes", n.Method)
	}

	if n.Service == "" && n.Method != "" {
		p.fault("names the method %.80q without its service", n.Method)
	}
}

// check rejects, in a live config, message limits above gRPC's defaults, which
// protect the caller.
func (m *Method) check(p place) {
	limit := func(field string, value *uint32, most uint32) {
		if p.live && value != nil && *value > most {
			p.in(field).fault("%d is above gRPC's default of %d: a live config may lower the limit, not lift it",
				*value, most)
		}
	}

	limit("maxRequestMessageBytes", m.MaxRequestMessageBytes, defaultMaxRequest)
	limit("maxResponseMessageBytes", m.MaxResponseMessageBytes, defaultMaxResponse)
}

func (r *Retry) check(p place) {
	if r.MaxBackoff > 0 && r.InitialBackoff > r.MaxBackoff {
		p.in("initialBackoff").fault("is %v, longer than maxBackoff, which is %v",
			r.InitialBackoff, r.MaxBackoff)
	}
}

// decode decodes a status code's name or number.
func (c *Code) decode(p place, v any) {
	var text string

	switch v := v.(type) {
	case string:
		text = strconv.Quote(v)
	case json.Number:
		text = v.String()
	}

	var code codes.Code
	switch {
	case code.UnmarshalJSON([]byte(text)) != nil:
		p.wants(`a status code such as "UNAVAILABLE"`, v)
	case code == codes.OK:
		p.fault("is OK, which is not a failure: name the codes to retry after")
	case code == codes.Canceled:
		*c = "CANCELLED"
	default:
		*c = Code(strings.ToUpper(snake(code.String())))
	}
}

// snake converts "DeadlineExceeded" to "deadline_exceeded".
func snake(camel string) string {
	var name strings.Builder
	for i, r := range camel {
		if i > 0 && unicode.IsUpper(r) {
			name.WriteByte('_')
		}

		name.WriteRune(unicode.ToLower(r))
	}

	return name.String()
}
