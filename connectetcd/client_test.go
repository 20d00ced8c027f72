package connectetcd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// body is the body of a request, and records whether it was closed.
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
	if pipe, ok := b.Reader.(*io.PipeReader); ok {
		return pipe.Close()
	}
	return nil
}

// refusing is a connection on which every call fails.
type refusing struct{}

func (refusing) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return status.Error(codes.Unavailable, "no server")
}

func (refusing) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unavailable, "no server")
}

// The error of Do names the fault in the request. Do closes the request's body.
func TestDo_RefusesInvalidRequests(t *testing.T) {
	const (
		unary  = grpc_health_v1.Health_Check_FullMethodName
		server = grpc_health_v1.Health_Watch_FullMethodName
		other  = "/acme.Unknown/Method" // unknown, so called as a bidirectional stream
	)
	one := frame([]byte("one"))
	open, _ := io.Pipe()
	for name, c := range map[string]struct {
		conn        grpc.ClientConnInterface
		method      string // GET or POST
		path        string
		contentType string
		body        io.Reader
		want        string // a part of Do's error, or of the trailers
	}{
		"no connection":     {nil, "POST", unary, "application/grpc+proto", bytes.NewReader(one), "a nil connection"},
		"a nil connection":  {(*grpc.ClientConn)(nil), "POST", unary, "application/grpc", bytes.NewReader(one), "a nil connection"}, // of a failed constructor
		"GET":               {refusing{}, "GET", unary + "?message=x", "", nil, "a GET request with the content type"},
		"Connect":           {refusing{}, "POST", unary, "application/proto", bytes.NewReader(one), "the content type \"application/proto\" is of another protocol"},
		"Connect's streams": {refusing{}, "POST", server, "application/connect+json", bytes.NewReader(one), "\"application/connect+json\""},
		"gRPC-Web":          {refusing{}, "POST", unary, "application/grpc-web+proto", bytes.NewReader(one), "is of another protocol than gRPC"},
		"gRPC-Web as text":  {refusing{}, "POST", unary, "application/grpc-web-text", bytes.NewReader(one), "is of another protocol than gRPC"},
		"a base URL's path": {refusing{}, "POST", "/api" + unary, "application/grpc", bytes.NewReader(one), "is not a method"},
		"no method":         {refusing{}, "POST", "/acme.Greeter", "application/grpc", bytes.NewReader(one), "is not a method"},
		"no message":        {refusing{}, "POST", unary, "application/grpc", bytes.NewReader(nil), "has no message"},
		"a broken end":      {refusing{}, "POST", unary, "application/grpc", io.MultiReader(bytes.NewReader(one), iotest.ErrReader(errors.New("broken"))), "broken"},
		"two messages":      {refusing{}, "POST", server, "application/grpc", bytes.NewReader(append(one, one...)), "more than one message"},
		"an open request":   {refusing{}, "POST", unary, "application/grpc", open, "context canceled"},
		"a short message":   {refusing{}, "POST", unary, "application/grpc", bytes.NewReader(one[:7]), "unexpected EOF"},
		"a broken body":     {refusing{}, "POST", unary, "application/grpc", iotest.ErrReader(errors.New("broken")), "broken"},
		"no server":         {refusing{}, "POST", unary, "application/grpc", bytes.NewReader(one), "no server"},
		"no reply stream":   {refusing{}, "POST", server, "application/grpc", bytes.NewReader(one), "no server"},
		"no stream":         {refusing{}, "POST", other, "application/grpc", bytes.NewReader(one), "no server"},
	} {
		t.Run(name, func(t *testing.T) {
			sent := body{c.body, make(chan struct{})}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.body == open {
				cancel()
			}
			req, err := http.NewRequestWithContext(ctx, c.method, "http://any"+c.path, sent)
			must.Succeed(t, err)
			req.Header.Set("Content-Type", c.contentType)
			resp, err := NewHTTPClient(c.conn).Do(req)
			if err != nil {
				if failed := new(connect.Error); !errors.As(err, &failed) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Do fails with %v, want a connect.Error with %q", err, c.want)
				}
			} else {
				if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
					t.Errorf("the response has the body %q (read error %v), want no body and no error", rest, err)
				}
				if resp.Trailer.Get("Grpc-Status") == "0" || !strings.Contains(resp.Trailer.Get("Grpc-Message"), c.want) {
					t.Errorf("the response has the trailers %v, want an error with %q", resp.Trailer, c.want)
				}
				if err := resp.Body.Close(); err != nil {
					t.Error(err)
				}
			}
			<-sent.closed
		})
	}
}

// The affinity in the context is sent like that of gRPC's clients, with the request's headers, in place of the request's affinity.
func TestNewCall_PrefersAffinityOfContext(t *testing.T) {
	ctx := runtime.WithAffinity(t.Context(), "user-4711")
	want, _ := metadata.FromOutgoingContext(ctx)
	ctx = context.WithValue(ctx, affinityKey{}, &affinityValue{"of the request"})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://any"+grpc_health_v1.Health_Check_FullMethodName, http.NoBody)
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

// frame returns a message with its prefix, as in a body.
func frame(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// FuzzKey checks that the base URL of any key, with a method appended, is a valid URL whose path is the method.
func FuzzKey(f *testing.F) {
	for _, key := range []string{"acme/user", "/acme/user/", "", "acme/library:v2", "acme/library@eu", "acme/100%", "a#b", "a?b", "a/[x", "acme/Bücherei", "a|b"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		const method = grpc_health_v1.Health_Check_FullMethodName
		got, err := url.ParseRequestURI(baseURL(key) + method)
		if err != nil || got.Path != method || got.RawQuery != "" {
			t.Fatalf("the URL of the key %q is %v (error %v), want the path %q and no query", key, got, err, method)
		}
	})
}

// FuzzMetadata converts any header of a request to metadata and back, with a second header that must not change.
func FuzzMetadata(f *testing.F) {
	f.Add("Name", "value")
	f.Add("name-bin", connect.EncodeBinaryHeader([]byte{0, 255}))
	f.Add("Name-Bin", "AAA=, AQ")
	f.Add("Name-Bin", "no base64!")
	f.Add("grpc-timeout", "1S")
	f.Fuzz(func(t *testing.T, name, value string) {
		md, _ := toMetadata(http.Header{name: {value}, "Beside": {"red"}}) // on an error, md has the valid headers
		if !slices.Contains(md["beside"], "red") {
			t.Errorf("the headers %q: %q and Beside: red become the metadata %q, want beside: red in it", name, value, md)
		}
		back := make(http.Header)
		addMetadata(back, md)
		md2, err := toMetadata(back)
		if err != nil {
			t.Fatalf("toMetadata(%q) fails with %v, want no error", back, err)
		}
		for key, values := range md {
			if !slices.Equal(values, md2[key]) {
				t.Errorf("the metadata %q is %q after a conversion to headers and back, want the same", md, md2)
			}
		}
	})
}
