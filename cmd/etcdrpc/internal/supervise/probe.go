package supervise

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/invoke"
)

// probeTimeout bounds one probe.
const probeTimeout = 2 * time.Second

// Probe says how to ask a command whether it serves.
type Probe struct {
	Addr      string
	TCP       bool   // that it accepts a connection is enough
	Service   string // whose health counts; "": the server's as a whole
	Transport invoke.Transport
	TLS       *tls.Config // nil: plaintext
}

// prober asks, one question at a time.
type prober struct {
	Probe
	link *invoke.Link // to the command; nil: none that works
}

// ask asks the command. The error says why it is not healthy.
func (p *prober) ask(ctx context.Context) (health, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if !p.TCP {
		return p.askHealth(ctx)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.Addr)
	if err != nil {
		return unreachable, err
	}
	conn.Close()
	return healthy, nil
}

func (p *prober) askHealth(ctx context.Context) (health, error) {
	if p.link == nil {
		link, err := p.Transport.Connect(p.Addr, p.TLS, new(net.Dialer).DialContext)
		if err != nil {
			return unreachable, err
		}
		p.link = link
	}
	resp, err := healthpb.NewHealthClient(p.link).Check(ctx, &healthpb.HealthCheckRequest{Service: p.Service})
	switch status.Code(err) {
	case codes.OK:
		if s := resp.GetStatus(); s != healthpb.HealthCheckResponse_SERVING {
			return unhealthy, fmt.Errorf("its health is %v", s)
		}
		return healthy, nil
	case codes.Unimplemented:
		return untold, errors.New("it has no grpc.health.v1.Health")
	case codes.Unauthenticated, codes.PermissionDenied:
		return untold, fmt.Errorf("it does not tell anybody: %s", status.Convert(err).Message())
	case codes.NotFound:
		return unhealthy, fmt.Errorf("its grpc.health.v1.Health does not know the service %q", p.Service)
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		hint := p.hint()
		p.close() // which would not connect again at once
		if hint != "" && status.Code(err) == codes.Unavailable {
			return strange, fmt.Errorf("probe of %s: %s: %s", p.Addr, status.Convert(err).Message(), hint)
		}
		return unreachable, fmt.Errorf("probe of %s: %s", p.Addr, status.Convert(err).Message())
	case codes.ResourceExhausted:
		return busy, fmt.Errorf("probe of %s: %w", p.Addr, err)
	default:
		return strange, fmt.Errorf("probe of %s: %w", p.Addr, err)
	}
}

// hint says what may help where the command accepts connections, and cannot be spoken to; "" if nothing is known to.
func (p *prober) hint() string {
	hint := p.link.Hint(&p.Transport)
	if hint != "" && p.TLS == nil {
		return "if it speaks TLS, give --tls"
	}
	return hint
}

func (p *prober) close() {
	if p.link != nil {
		p.link.Close()
		p.link = nil
	}
}
