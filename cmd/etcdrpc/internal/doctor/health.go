package doctor

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/parallel"
)

const (
	grpcContent  = "application/grpc"
	healthMethod = "/grpc.health.v1.Health/Check"
	noMethod     = "EtcdrpcDoctorAsksWhoServesThis" // of no service
	maxQuestions = 16                               // to one instance at once
	maxAnswer    = 4 << 10                          // bytes of an answer
	maxHeaders   = 16 << 10                         // bytes of its headers
)

// answer is what came back to one question.
type answer struct {
	failure    string // how the check failed
	foreign    bool   // because the answer is not gRPC's
	notServing bool
	unknown    bool // the server has no method of the service
	code       codes.Code
	message    string
}

// asker asks one instance.
type asker struct {
	transport *http.Transport
	url, host string
}

// opener opens a connection to an instance.
type opener func(ctx context.Context) (net.Conn, error)

// over speaks HTTP/2 over a connection, and over another when the server ends it.
func over(conn net.Conn, another opener) *http.Transport {
	first := make(chan net.Conn, 1)
	first <- conn
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case conn := <-first:
			return conn, nil
		default:
			return another(ctx)
		}
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{Protocols: protocols, MaxResponseHeaderBytes: maxHeaders, DialContext: dial, DialTLSContext: dial}
}

// converse asks for the health of the server and of all its services, and notes what the answers say. The error is of the
// first question: that it was not understood at all.
func (s *speaker) converse(ctx context.Context, a asker, services []string, found *speech) error {
	defer a.transport.CloseIdleConnections()
	whole, err := a.health(ctx, "")
	if err != nil {
		return err
	}
	if found.grpc = !whole.foreign; !found.grpc {
		found.what = "answers gRPC with " + whole.failure
		return nil
	}
	answers := make([]answer, len(services))
	parallel.Each(len(answers), maxQuestions, func(n int) {
		var err error
		if answers[n], err = a.service(ctx, services[n]); err != nil {
			answers[n].failure = fmt.Sprintf("no answer within %v", s.timeout)
		}
	})
	found.health = map[string]answer{"": whole}
	for n, service := range services {
		found.health[service] = answers[n]
	}
	return nil
}

// service asks for the health of a service and, where the server does not know it, whether it has the service at all.
func (a asker) service(ctx context.Context, name string) (answer, error) {
	health, err := a.health(ctx, name)
	if health.code == codes.NotFound || health.code == codes.Unimplemented {
		none, err := a.call(ctx, "/"+name+"/"+noMethod, nil)
		health.unknown = err == nil && none.code == codes.Unimplemented && none.message == "unknown service "+name // as gRPC for Go says it
	}
	return health, err
}

// health asks for the health of one service.
func (a asker) health(ctx context.Context, service string) (answer, error) {
	message, err := proto.Marshal(&grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		return answer{}, err
	}
	return a.call(ctx, healthMethod, message)
}

// call calls a method with a message.
func (a asker) call(ctx context.Context, method string, message []byte) (answer, error) {
	body := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+method, bytes.NewReader(append(body, message...)))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", grpcContent)
	req.Header.Set("Te", "trailers")
	req.Host = cmp.Or(a.host, req.Host)
	resp, err := a.transport.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	if content := resp.Header.Get("Content-Type"); !strings.HasPrefix(content, grpcContent) {
		return answer{failure: fmt.Sprintf("HTTP status %d and the content type %.40q", resp.StatusCode, content), foreign: true}, nil
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{failure: "an answer that breaks off"}, nil
	}
	return judge(resp, raw), nil
}

// judge says what gRPC's answer to a question tells. A server that does not know the method, the service or who asks is
// well all the same.
func judge(resp *http.Response, raw []byte) answer {
	said := func(name string) string { return cmp.Or(resp.Trailer.Get(name), resp.Header.Get(name)) }
	code, err := strconv.ParseUint(said("Grpc-Status"), 10, 32)
	if err != nil {
		return answer{failure: fmt.Sprintf("HTTP status %d and no status of gRPC", resp.StatusCode)}
	}
	text, err := url.PathUnescape(said("Grpc-Message"))
	if err != nil {
		text = ""
	}
	switch code := codes.Code(code); code {
	case codes.OK:
		return judgeHealth(raw)
	case codes.Unimplemented, codes.NotFound, codes.Unauthenticated, codes.PermissionDenied:
		return answer{code: code, message: text}
	default:
		failure := code.String()
		if text != "" {
			failure += fmt.Sprintf(" (%.80q)", text)
		}
		return answer{failure: failure, code: code}
	}
}

// judgeHealth reads a message with a length before it.
func judgeHealth(raw []byte) answer {
	const header = 5 // a flag for compression, and the length
	var health grpc_health_v1.HealthCheckResponse
	if len(raw) > 0 && raw[0] == 1 {
		return answer{} // it is compressed, though nobody asked for that
	}
	if len(raw) < header || proto.Unmarshal(raw[header:], &health) != nil {
		return answer{failure: "what is no health"}
	}
	switch health.GetStatus() {
	case grpc_health_v1.HealthCheckResponse_SERVING, grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN:
		return answer{}
	case grpc_health_v1.HealthCheckResponse_NOT_SERVING:
		return answer{notServing: true}
	}
	return answer{failure: fmt.Sprintf("the health %.20s", health.GetStatus())}
}
