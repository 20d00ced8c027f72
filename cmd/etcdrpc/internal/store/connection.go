package store

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/peer"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcdcause"
)

// connection records errors of the connection to etcd. The zero value is ready
// to use.
type connection struct {
	// the connection's state at the last error; nil after a response
	last        atomic.Pointer[etcdcause.ConnState]
	passthrough atomic.Bool // the caller handles errors itself
}

// downError says that the connection is down. It has no gRPC status, so etcd's
// client does not retry.
type downError struct {
	error
	sent bool // the request may have been sent
}

// UnansweredError is the error of a request that etcd did not answer, or
// rejected.
type UnansweredError struct{ error }

// Unwrap returns the cause.
func (e UnansweredError) Unwrap() error {
	return e.error
}

// intercept fails a request as soon as no member of etcd is reachable. etcd's
// client would wait for the timeout. It also resets the backoff, so that the
// next request connects at once.
func (c *connection) intercept(
	ctx context.Context,
	method string,
	req, reply any,
	conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	if c.passthrough.Load() {
		return invoke(ctx, method, req, reply, conn, opts...)
	}

	var reached peer.Peer // empty if gRPC had no connection for the request
	err := invoke(ctx, method, req, reply, conn,
		append(opts, grpc.WaitForReady(false), grpc.Peer(&reached))...)
	if err == nil {
		c.last.Store(nil)
		return nil
	}

	state := conn.GetState()
	cause := c.record(state, etcdcause.Met(err, state))
	if cause == nil {
		return err
	}

	conn.ResetConnectBackoff()

	return downError{cause, reached.Addr != nil}
}

// record records the state of the connection. It returns why the connection is
// down, nil if the connection is up or the reason is unknown.
func (c *connection) record(state connectivity.State, cause error) error {
	if last := c.last.Load(); last != nil {
		cause = etcdcause.Latest(last.Cause, cause)
	}

	c.last.Store(&etcdcause.ConnState{State: state, Cause: cause})

	return cause
}

// why returns the cause of a failed request, nil if the error already contains
// the cause.
func (c *connection) why(err error, user string, endpoints []string) error {
	now := c.last.Load()
	if now == nil {
		return nil
	}

	known := *now
	known.User = user
	known.Endpoints = endpoints

	return known.Why(err)
}

// The remedies for etcd's alarms.
const (
	MakeSpace     = "compact etcd (etcdctl compaction), free the space (etcdctl defrag --cluster), and end the alarm (etcdctl alarm disarm)"
	ReplaceMember = "find the member that differs (etcdctl endpoint hashkv --cluster), replace it (etcdctl member), and only then end the alarm (etcdctl alarm disarm)"
)

// remedy returns the remedy for a cause, "" if none is known. It compares
// texts, because gRPC passes on only the text of an error of TLS or the
// network.
func remedy(cause error) string {
	switch {
	case errors.Is(cause, rpctypes.ErrNoSpace):
		return MakeSpace
	case errors.Is(cause, rpctypes.ErrCorrupt):
		return ReplaceMember
	}

	for _, r := range []struct{ cause, remedy string }{
		{"certificate signed by unknown authority",
			"give the CA of its certificate by --cacert"},
		{"certificate has expired or is not yet valid",
			"renew its certificate, or set this host's clock"},
		{"x509: ", "compare the names in its certificate with --endpoints"},
		{"remote error: tls: ",
			"give a client certificate that it trusts by --cert and --key"},
		{"authentication handshake failed",
			"if it does not speak TLS, leave out --cacert, --cert, --key and https://"},
		{"write: ", "if it speaks TLS, give --cacert; if it asks for client certificates, also --cert and --key"},
		{"connection reset by peer",
			"if it speaks TLS, give --cacert; if it asks for client certificates, also --cert and --key"},
		{"error reading server preface",
			"if it speaks TLS, give --cacert, or https:// in --endpoints"},
		{"connection error: ", "check --endpoints"},
		{"there is no connection", "check --endpoints, and whether etcd hangs"},
	} {
		if strings.Contains(cause.Error(), r.cause) {
			return r.remedy
		}
	}

	return ""
}

// Remote returns the hosts, with their ports, that an etcd client reaches over
// a network. Loopback addresses and Unix sockets do not count. Names are not
// resolved.
func Remote(endpoints []string) (remote []string) {
	for _, e := range etcdcause.Shown(endpoints) {
		if addr := address(e); addr != "" && !Local(addr) {
			remote = append(remote, addr)
		}
	}

	return remote
}

// Secured reports whether a client with this first endpoint uses TLS. That
// endpoint decides for all: https:// requires TLS, http:// forbids it, and
// otherwise the configuration decides.
func Secured(first string, withTLS bool) bool {
	scheme, _, _ := strings.Cut(first, ":")
	switch strings.ToLower(scheme) {
	case "https", "unixs":
		return true
	case "http":
		return false
	}

	return withTLS
}

// address returns the host:port of an endpoint, "" if the endpoint is a Unix
// socket.
func address(endpoint string) string {
	if strings.HasPrefix(endpoint, "unix:") || strings.HasPrefix(endpoint, "unixs:") {
		return ""
	}

	if !strings.Contains(endpoint, "://") {
		return endpoint
	}

	u, err := url.Parse(endpoint)
	if err != nil {
		return endpoint
	}

	if u.Host == "" { // gRPC's own form, such as dns:///etcd.example:2379
		return strings.TrimPrefix(u.Path, "/")
	}

	return u.Host
}

// Local reports whether the text of addr names this host.
func Local(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]")
	}

	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}

	ip, err := netip.ParseAddr(host)

	return err == nil && (ip.Unmap().IsLoopback() || ip.Unmap().IsUnspecified())
}
