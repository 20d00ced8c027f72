package connectetcd

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// body is the body of a request. Its Close closes the channel.
type body struct {
	io.Reader
	closed chan struct{}
}

func (b body) Close() error {
	select {
	case <-b.closed:
	default:
		close(b.closed)
	}

	return nil
}

// refusing is a connection on which every call fails.
type refusing struct{}

func (refusing) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return status.Error(codes.Unavailable, "no server")
}

func (refusing) NewStream(
	context.Context,
	*grpc.StreamDesc,
	string,
	...grpc.CallOption,
) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unavailable, "no server")
}

// The error of Do names the fault in the request. Do closes the request's body.
func TestDo_RefusesInvalidRequests(t *testing.T) {
	const (
		unary  = grpc_health_v1.Health_Check_FullMethodName
		server = grpc_health_v1.Health_Watch_FullMethodName
		other  = "/acme.Unknown/Method" // unknown, so called as a bidirectional stream
	)

	const one = "\x00\x00\x00\x00\x03one"
	for name, c := range map[string]struct {
		path        string
		contentType string
		body        string
		want        string // a part of Do's error, or of the trailers
	}{
		"Connect's GET": {unary + "?message=x", "", "",
			`the content type "" is of another protocol`},
		"Connect": {unary, "application/proto", one,
			`the content type "application/proto" is of another protocol`},
		"Connect's streams": {server, "application/connect+json", one,
			`"application/connect+json"`},
		"gRPC-Web": {unary, "application/grpc-web+proto", one, "is of another protocol than gRPC"},
		"gRPC-Web as text": {unary, "application/grpc-web-text", one,
			"is of another protocol than gRPC"},
		"no message":      {unary, "application/grpc", "", "EOF"},
		"a short message": {unary, "application/grpc", one[:7], "unexpected EOF"},
		"no server":       {unary, "application/grpc", one, "no server"},
		"no reply stream": {server, "application/grpc", one, "no server"},
		"no stream":       {other, "application/grpc", one, "no server"},
	} {
		t.Run(name, func(t *testing.T) {
			sent := body{strings.NewReader(c.body), make(chan struct{})}
			req, err := http.NewRequest(http.MethodPost, "http://any"+c.path, sent)
			must.Succeed(t, err)
			req.Header.Set("Content-Type", c.contentType)

			resp, err := NewHTTPClient(refusing{}).Do(req)
			if err != nil {
				failed := new(connect.Error)
				if !errors.As(err, &failed) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Do fails with %v, want a connect.Error with %q", err, c.want)
				}
			} else {
				if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
					t.Errorf(
						"the response has the body %q (read error %v), want no body and no error",
						rest, err)
				}

				if resp.Trailer.Get("Grpc-Status") == "0" ||
					!strings.Contains(resp.Trailer.Get("Grpc-Message"), url.PathEscape(c.want)) {
					t.Errorf("the response has the trailers %v, want an error with %q",
						resp.Trailer, c.want)
				}

				if err := resp.Body.Close(); err != nil {
					t.Error(err)
				}
			}

			<-sent.closed
		})
	}
}

// If the context has an affinity, newCall sends that one, and not the
// request's. The call's metadata is that of gRPC's clients, with the request's
// headers added.
func TestNewCall_PrefersAffinityOfContext(t *testing.T) {
	ctx := runtime.WithAffinity(t.Context(), "user-4711")
	want, _ := metadata.FromOutgoingContext(ctx)
	ofRequest := "of the request"
	ctx = context.WithValue(ctx, affinityKey{}, &ofRequest)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://any"+grpc_health_v1.Health_Check_FullMethodName, http.NoBody)
	must.Succeed(t, err)
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("X-Trace", "1")
	call, err := newCall(req)
	must.Succeed(t, err)
	want.Set("x-trace", "1")

	if got, _ := metadata.FromOutgoingContext(call.ctx); !reflect.DeepEqual(got, want) {
		t.Errorf("the call sends the metadata %v, want %v", got, want)
	}
}

// FuzzMetadata converts any header of a request to metadata and back, with a
// second header that must not change.
func FuzzMetadata(f *testing.F) {
	f.Add("Name", "value")
	f.Add("name-bin", connect.EncodeBinaryHeader([]byte{0, 255}))
	f.Add("Name-Bin", "AAA=, AQ")
	f.Add("Name-Bin", "no base64!")
	f.Add("grpc-timeout", "1S")

	f.Fuzz(func(t *testing.T, name, value string) {
		// on an error, md has the valid headers
		md, _ := toMetadata(http.Header{name: {value}, "Beside": {"red"}})
		if !slices.Contains(md["beside"], "red") {
			t.Errorf(
				"the headers %q: %q and Beside: red become the metadata %q, want beside: red in it",
				name, value, md)
		}

		back := make(http.Header)
		addMetadata(back, md)

		md2, err := toMetadata(back)
		if err != nil {
			t.Fatalf("toMetadata(%q) fails with %v, want no error", back, err)
		}

		for key, values := range md {
			if !slices.Equal(values, md2[key]) {
				t.Errorf(
					"the metadata %q is %q after a conversion to headers and back, want the same",
					md, md2)
			}
		}
	})
}
