package doctor

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/parallel"
)

const (
	grpcContent  = "application/grpc"
	healthMethod = "/grpc.health.v1.Health/Check"
	noMethod     = "EtcdrpcDoctorAsksWhoServesThis" // of no service
	// maxQuestions bounds the questions to one instance at once.
	maxQuestions = 16
)

// health is what an instance says of its health, by services, of which "" is the server as a whole.
type health struct {
	notServing []string // those that say so
	failing    []string // those whose check fails
	failure    string   // how that of the first does
	unknown    []string // those of which the server has no method
	codes      map[string]codes.Code
}

// converse asks for the health of the server and of all its services, and notes what the answers say. The error is of the
// first question: that it was not understood at all.
func (s *speaker) converse(ctx context.Context, over http.RoundTripper, scheme string, to partner, found *speech) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	first, err := askHealth(ctx, over, scheme, to, "")
	if err != nil {
		return err
	}
	if found.grpc = first.what == ""; !found.grpc {
		found.what = "answers gRPC with " + first.what
		return nil
	}
	found.add("", first)
	answers := make([]answer, len(to.services))
	parallel.Each(len(answers), maxQuestions, func(n int) {
		service := to.services[n]
		a, err := askHealth(ctx, over, scheme, to, service)
		if err != nil {
			a.what = fmt.Sprintf("no answer within %v", s.timeout)
		} else if a.code == codes.NotFound || a.code == codes.Unimplemented {
			none, err := ask(ctx, over, scheme, to, "/"+service+"/"+noMethod, nil)
			a.unknown = err == nil && none.code == codes.Unimplemented && none.message == "unknown service "+service // as gRPC for Go says it
		}
		answers[n] = a
	})
	for n, a := range answers {
		found.add(to.services[n], a)
	}
	return nil
}

// add notes what was answered of a service.
func (h *health) add(service string, a answer) {
	if failure := cmp.Or(a.what, a.failure); failure != "" {
		h.failing = append(h.failing, service)
		h.failure = cmp.Or(h.failure, failure)
	}
	if a.notServing {
		h.notServing = append(h.notServing, service)
	}
	if a.unknown {
		h.unknown = append(h.unknown, service)
	}
	if h.codes == nil {
		h.codes = make(map[string]codes.Code)
	}
	h.codes[service] = a.code
}

// check finds what is wrong with the health of an instance.
func (h *health) check(addr string, published, where []string) (all []Finding) {
	if len(h.notServing) > 0 {
		all = append(all, newFinding(KindNotServing, where, fmt.Sprintf("%s says that it is not serving: %s", addr, healthNames(h.notServing)),
			"look at its server's log: it takes no part, or is about to stop. A server of this project withdraws its entry meanwhile"))
	}
	if len(h.failing) > 0 {
		all = append(all, newFinding(KindNotServing, where, fmt.Sprintf("%s fails gRPC's health check with %s: %s", addr, h.failure, healthNames(h.failing)),
			"look at its server's log and, where a proxy is at this address, at what that one reaches: other calls are likely to fail, too"))
	}
	if unknown := slices.DeleteFunc(slices.Clone(h.unknown), func(name string) bool { return !slices.Contains(published, name) }); len(unknown) > 0 {
		all = append(all, newFinding(KindWrongService, where, fmt.Sprintf("%s is that of another server now: it knows nothing of what its entry publishes: %s", addr, output.Quoted(unknown)),
			"if the entry's own server is dead, the entry goes with its lease; if two servers say that they are here, have each advertise an address of its own (GRPC_ADVERTISE_ADDR)"))
	}
	return all
}

// healthNames lists services.
func healthNames(services []string) string {
	if services[0] == "" {
		return "the server as a whole"
	}
	return output.Quoted(services)
}

// answer is what came back to one question.
type answer struct {
	what       string // what was answered instead of gRPC
	failure    string // how the check failed
	notServing bool
	unknown    bool // the server has no method of it
	code       codes.Code
	message    string
}

// askHealth asks for the health of one service.
func askHealth(ctx context.Context, over http.RoundTripper, scheme string, to partner, service string) (answer, error) {
	message, err := proto.Marshal(&grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		return answer{}, err
	}
	return ask(ctx, over, scheme, to, healthMethod, message)
}

// ask calls a method with a message.
func ask(ctx context.Context, over http.RoundTripper, scheme string, to partner, method string, message []byte) (answer, error) {
	body := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+to.addr+method, bytes.NewReader(append(body, message...)))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", grpcContent)
	req.Header.Set("Te", "trailers")
	if to.tlsName != "" {
		req.Host = to.tlsName
	}
	resp, err := over.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	if content := resp.Header.Get("Content-Type"); !strings.HasPrefix(content, grpcContent) {
		return answer{what: fmt.Sprintf("HTTP status %d and the content type %.40q", resp.StatusCode, content)}, nil
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
