package doctor

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

// TestJudge tells which answers to a health check are well, a line a rule.
func TestJudge(t *testing.T) {
	serving, notServing := "\x00\x00\x00\x00\x02\x08\x01", "\x00\x00\x00\x00\x02\x08\x02"
	status := func(code codes.Code) string { return fmt.Sprint(uint32(code)) }
	for _, tt := range []struct {
		name, code, message, body string
		notServing                bool
		failure                   string // "" none
	}{
		{"serving", "0", "", serving, false, ""},
		{"not serving", "0", "", notServing, true, ""},
		{"a service that it does not know, as a watch says", "0", "", "\x00\x00\x00\x00\x02\x08\x03", false, ""},
		{"a health that is not known", "0", "", "\x00\x00\x00\x00\x00", false, "the health UNKNOWN"},
		{"a health of the future", "0", "", "\x00\x00\x00\x00\x02\x08\x09", false, "the health 9"},
		{"compressed, so not known", "0", "", "\x01\x00\x00\x00\x02\x1f\x8b", false, ""},
		{"no message", "0", "", "", false, "what is no health"},
		{"another message", "0", "", "\x00\x00\x00\x00\x02\x08", false, "what is no health"},
		{"no health service", status(codes.Unimplemented), "unknown service", "", false, ""},
		{"a service that it does not know", status(codes.NotFound), "unknown service", "", false, ""},
		{"who asks is not known", status(codes.Unauthenticated), "no token", "", false, ""},
		{"who asks may not", status(codes.PermissionDenied), "RBAC: access denied", "", false, ""},
		{"a proxy without an upstream", status(codes.Unavailable), "no healthy%20upstream", "", false, `Unavailable ("no healthy upstream")`},
		{"a panic", status(codes.Internal), "", "", false, "Internal"},
		{"too much to do", status(codes.ResourceExhausted), "", "", false, "ResourceExhausted"},
		{"text that is hostile", status(codes.Unknown), "\x1b[2J" + strings.Repeat("a", 1000), "", false, `Unknown ("\x1b[2J` + strings.Repeat("a", 76) + `")`},
		{"escapes that are none", status(codes.Unknown), "100%", "", false, "Unknown"},
		{"a code that is none of gRPC's", "99", "", "", false, "Code(99)"},
		{"no status", "", "", serving, false, "HTTP status 200 and no status of gRPC"},
		{"a status that is none", "fine", "", serving, false, "HTTP status 200 and no status of gRPC"},
	} {
		said := http.Header{}
		said.Set("Grpc-Status", tt.code)
		said.Set("Grpc-Message", tt.message)
		for _, resp := range []*http.Response{{StatusCode: http.StatusOK, Trailer: said}, {StatusCode: http.StatusOK, Header: said}} {
			got, want := judge(resp, []byte(tt.body)), answer{failure: tt.failure, notServing: tt.notServing}
			if got.code, got.message = 0, ""; got != want {
				t.Errorf("%s: %+v, want %+v", tt.name, got, want)
			}
		}
	}
}
