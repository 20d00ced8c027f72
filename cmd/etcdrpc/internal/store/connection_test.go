package store

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

func TestRemedy(t *testing.T) {
	const handshake = `connection error: desc = "transport: authentication handshake failed: `
	for cause, want := range map[string]string{
		`connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`:               "check --endpoints",
		`connection error: desc = "error reading server preface: EOF"`:                                                               "if it speaks TLS, give --cacert, or https:// in --endpoints",
		`connection error: desc = "error reading server preface: remote error: tls: certificate required"`:                           "give a client certificate that it trusts by --cert and --key",
		`connection error: desc = "error reading server preface: read tcp 127.0.0.1:9->127.0.0.1:1: read: connection reset by peer"`: "if it speaks TLS, give --cacert; if it asks for client certificates, also --cert and --key",
		`write tcp 127.0.0.1:9->127.0.0.1:1: write: broken pipe`:                                                                     "if it speaks TLS, give --cacert; if it asks for client certificates, also --cert and --key",
		handshake + `EOF"`: "if it does not speak TLS, leave out --cacert, --cert, --key and https://",
		handshake + `tls: failed to verify certificate: x509: certificate signed by unknown authority"`:                   "give the CA of its certificate by --cacert",
		handshake + `tls: failed to verify certificate: x509: certificate is valid for a, not b"`:                         "compare the names in its certificate with --endpoints",
		handshake + `tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time"`: "renew its certificate, or set this host's clock",
		`etcd ["a:1"] does not answer: there is no connection to it`:                                                      "check --endpoints, and whether etcd hangs",
		`etcd ["a:1"] does not answer, though the connection is up: it hangs, has no leader, or allows too few streams`:   "",
		`etcd user "connection"`: "",
	} {
		if got := remedy(errors.New(cause)); got != want {
			t.Errorf("remedy(%q) = %q, want %q", cause, got, want)
		}
	}
}

// TestConnection_Record checks that the cause of an outage is independent of
// the member and the local port.
func TestConnection_Record(t *testing.T) {
	var c connection
	for _, tt := range []struct{ cause, want string }{
		{"dial tcp 10.0.0.1:2379: connection refused",
			"dial tcp 10.0.0.1:2379: connection refused"},
		{"dial tcp 10.0.0.2:2379: connection refused",
			"dial tcp 10.0.0.1:2379: connection refused"},
		{"read tcp 10.0.0.9:41234->10.0.0.1:2379: EOF",
			"read tcp 10.0.0.9:41234->10.0.0.1:2379: EOF"},
	} {
		got := c.record(connectivity.TransientFailure, errors.New(tt.cause))
		if got.Error() != tt.want {
			t.Errorf("record(%q) = %q, want %q", tt.cause, got, tt.want)
		}
	}

	if got := c.record(connectivity.Ready, nil); got != nil {
		t.Errorf("record(Ready, nil) = %v, want nil", got)
	}

	s := &Store{conn: &c, timeout: 2 * time.Second}
	for _, late := range []error{context.DeadlineExceeded,
		status.Error(codes.Unknown, context.DeadlineExceeded.Error())} {
		got := s.explain("read", late).Error()
		if !strings.HasPrefix(got,
			"read: not within 2s: etcd [] does not answer, though the connection is up") {
			t.Errorf("explain(%v) = %s, want the timeout, and that the connection is up", late, got)
		}
	}
}

// TestConnection_Sent checks that only a request without a connection counts as
// never sent.
func TestConnection_Sent(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)
	conn, err := grpc.NewClient(lis.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	must.Succeed(t, err)

	defer conn.Close()

	var server *grpc.Server

	// like an etcd that stops
	server = grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		go server.GracefulStop()
		conn.WaitForStateChange(t.Context(), connectivity.Ready)
		server.Stop()

		return nil
	}))

	go func() { _ = server.Serve(lis) }() // returns nil after Stop

	untilDown := func(
		ctx context.Context,
		method string,
		req, reply any,
		conn *grpc.ClientConn,
		opts ...grpc.CallOption,
	) error {
		err := conn.Invoke(ctx, method, req, reply, opts...)

		for state :=
			conn.GetState(); state != connectivity.TransientFailure; state = conn.GetState() {
			conn.Connect()
			conn.WaitForStateChange(ctx, state)
		}

		return err
	}
	for _, want := range []bool{true, false} {
		err := new(connection).intercept(t.Context(), "/a/b", new(emptypb.Empty),
			new(emptypb.Empty), conn, untilDown)
		if down, ok := errors.AsType[downError](err); !ok || down.sent != want {
			t.Errorf("intercept() = %v, want a downError with sent = %v", err, want)
		}
	}
}

func TestRemote(t *testing.T) {
	list := func(all ...string) []string { return all }
	for _, tt := range []struct {
		endpoints    []string
		tls, secured bool
		want         []string
	}{
		{nil, false, false, nil},
		{list("http://10.0.0.1:2379"), false, false, list("10.0.0.1:2379")},
		{list("HTTP://etcd.example:2379"), false, false, list("etcd.example:2379")},
		{list("http://[2001:db8::1]"), false, false, list("[2001:db8::1]")},
		{list("http://user:secret@10.0.0.1:2379/path"), false, false, list("10.0.0.1:2379")},
		{list("dns:///etcd.example:2379"), false, false, list("etcd.example:2379")},
		{list("http://%zz"), false, false, list("http://%zz")},

		{list("https://10.0.0.1:2379"), false, true, list("10.0.0.1:2379")},
		{list("10.0.0.1:2379"), true, true, list("10.0.0.1:2379")},
		{list("unix:///run/etcd.sock"), false, false, nil},
		{list("unixs:///run/etcd.sock"), false, true, nil},

		{list("http://127.0.0.1:2379"), false, false, nil},
		{list("127.1.2.3:2379", "localhost:2379", "LOCALHOST.:2379", "etcd.localhost",
			"[::1]:2379", "::1", "[::1]"), false, false, nil},
		{list(":2379", "0.0.0.0:2379", "[::]:2379", "[::ffff:127.0.0.1]:2379"), false, false, nil},
		{list("localhost.example:2379"), false, false, list("localhost.example:2379")},

		// The first endpoint decides for all whether TLS is used.
		{list("http://127.0.0.1:2379", "https://10.0.0.1:2379"), true, false,
			list("10.0.0.1:2379")},
		{list("https://10.0.0.1:2379", "http://10.0.0.2:2379"), false, true,
			list("10.0.0.1:2379", "10.0.0.2:2379")},
		{list("10.0.0.1:2379", "http://10.0.0.2:2379"), true, true,
			list("10.0.0.1:2379", "10.0.0.2:2379")},
		{list("127.0.0.1:2379", "10.0.0.1:2379", "10.0.0.2:2379"), false, false,
			list("10.0.0.1:2379", "10.0.0.2:2379")},
		{list("unix:///run/etcd.sock", "10.0.0.1:2379"), false, false, list("10.0.0.1:2379")},
	} {
		got := Remote(tt.endpoints)
		secured := Secured(append(tt.endpoints, "")[0], tt.tls)
		if secured != tt.secured || !slices.Equal(got, tt.want) {
			t.Errorf("Remote(%q) = %q, want %q; TLS %v, secured %v, want %v", tt.endpoints, got,
				tt.want, tt.tls, secured, tt.secured)
		}
	}
}
