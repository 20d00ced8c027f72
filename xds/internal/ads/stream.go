// Package ads is the aggregated discovery service of xDS, in its state-of-the-world variant.
//
//	core.go    decides the answers for a client, without I/O
//	stream.go  the streams of clients, with two goroutines each
package ads

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/mapping"
)

// Source is the resources.
type Source interface {
	// Follow has notify called after each change of a host's resources until stop is called. notify must not block.
	Follow(authority string, notify func()) (stop func())
	// Find looks up a resource for a client.
	Find(k Kind, name string, of mapping.Client) Found
}

// Server is the aggregated discovery service. It is safe for concurrent use.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	source Source
	logger *slog.Logger

	mu       sync.Mutex
	streams  map[*stream]struct{}
	refusals loglimit.Limiter
}

// NewServer returns a server.
func NewServer(source Source, logger *slog.Logger) *Server {
	return &Server{source: source, logger: logger, streams: make(map[*stream]struct{})}
}

// refused logs that a client refused an answer.
func (s *Server) refused(client string, k Kind, why string) {
	s.mu.Lock()
	ok, missed := s.refusals.Allow(time.Now())
	s.mu.Unlock()
	if ok {
		s.logger.Warn("a client refuses (NACK) an answer", loglimit.Attrs(missed, "client", client, "type", k.String(), "why", why)...)
	}
}

// stream is the stream of one client.
type stream struct {
	server  *Server
	grpc    discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer
	changed chan struct{} // holds a value if a resource of the client may have changed

	following sync.Mutex
	follows   map[string]func() // by authority; nil: the stream has ended

	mu     sync.Mutex // guards core, client and of; source may log while it is held
	core   Core
	client Client
	of     mapping.Client

	shown atomic.Pointer[Client] // read by Clients without mu, because a log handler may call it
}

// Client describes a client.
type Client struct {
	ID    string // of its bootstrap; "" before its first request
	Agent string // implementation and version of gRPC
	Zone  string
	Addr  string
	Types []Type
}

// StreamAggregatedResources implements the service.
func (s *Server) StreamAggregatedResources(g discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	c := &stream{server: s, grpc: g, changed: make(chan struct{}, 1), follows: make(map[string]func())}
	if p, ok := peer.FromContext(g.Context()); ok {
		c.client.Addr = fmt.Sprint(p.Addr)
	}
	c.show()
	s.mu.Lock()
	s.streams[c] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.streams, c)
		s.mu.Unlock()
		c.unfollow()
	}()
	return c.serve()
}

// serve sends answers until the stream ends.
func (c *stream) serve() error {
	failed := make(chan error, 1)
	go func() { failed <- c.receive() }() // ends with the stream
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.changed:
		case <-timer.C:
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-c.grpc.Context().Done():
			return c.grpc.Context().Err()
		}
		wake, err := c.answer()
		if err != nil {
			return err
		}
		timer.Stop()
		if !wake.IsZero() {
			timer.Reset(time.Until(wake))
		}
	}
}

// receive handles requests. It does not wait for answers: a client may send requests without reading.
func (c *stream) receive() error {
	for {
		r, err := c.grpc.Recv()
		if err != nil {
			return err
		}
		if err := c.request(r); err != nil {
			return err
		}
		c.notify()
	}
}

func (c *stream) request(r *discoveryv3.DiscoveryRequest) error {
	kind, ok := KindOf(r.GetTypeUrl())
	if !ok {
		return nil // a type that gRPC does not use
	}
	refused := ""
	if r.GetErrorDetail() != nil {
		refused = cmp.Or(short(r.GetErrorDetail().GetMessage()), "no reason given")
	}
	c.mu.Lock()
	if c.client.ID == "" && r.GetNode() != nil {
		c.identify(r.GetNode())
	}
	counts, err := c.core.Request(Request{kind, r.GetResourceNames(), r.GetResponseNonce(), refused, r.GetVersionInfo() != ""})
	authorities, client := c.core.Authorities(), c.client.ID
	c.show()
	c.mu.Unlock()
	if err != nil {
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	if counts && refused != "" {
		c.server.refused(client, kind, refused)
	}
	c.follow(authorities)
	return nil
}

// identify stores the identity of the client, from its first request.
func (c *stream) identify(n *corev3.Node) {
	c.client.ID, c.client.Agent, c.client.Zone = short(n.GetId()), short(n.GetUserAgentName()+" "+n.GetUserAgentVersion()), short(n.GetLocality().GetZone())
	c.of = mapping.Client{Zone: n.GetLocality().GetZone(), ID: n.GetId()}
	c.of.NoRing = strings.HasPrefix(n.GetUserAgentVersion(), "C-core 2") // such as "C-core 29.0.0 Python 1.51.1", up to 29
}

// short makes a text from a client safe to keep and print.
func short(text string) string { return printable.Short(text, 300) }

// follow follows the authorities that the client asks for, and stops following others.
func (c *stream) follow(authorities []string) {
	c.following.Lock()
	defer c.following.Unlock()
	if c.follows == nil {
		return // the stream has ended
	}
	wanted := make(map[string]bool, len(authorities))
	for _, authority := range authorities {
		wanted[authority] = true
		if c.follows[authority] == nil {
			c.follows[authority] = c.server.source.Follow(authority, c.notify)
		}
	}
	for authority, stop := range c.follows {
		if !wanted[authority] {
			stop()
			delete(c.follows, authority)
		}
	}
}

// unfollow stops following all, at the end of the stream.
func (c *stream) unfollow() {
	c.following.Lock()
	defer c.following.Unlock()
	for _, stop := range c.follows {
		stop()
	}
	c.follows = nil
}

func (c *stream) notify() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// answer sends the answers that are due. wake, unless zero, is when more may be due.
func (c *stream) answer() (wake time.Time, err error) {
	c.mu.Lock()
	answers, wake := c.core.Answers(time.Now(), func(k Kind, name string) Found { return c.server.source.Find(k, name, c.of) })
	c.show()
	c.mu.Unlock()
	for _, a := range answers {
		r := &discoveryv3.DiscoveryResponse{TypeUrl: a.Kind.String(), VersionInfo: a.Version, Nonce: a.Nonce, Resources: make([]*anypb.Any, len(a.Resources))}
		for i := range a.Resources {
			r.Resources[i] = a.Resources[i].Body
		}
		if err := c.grpc.Send(r); err != nil {
			return wake, err
		}
	}
	return wake, nil
}

// Clients returns the clients, sorted by id.
func (s *Server) Clients() []Client {
	s.mu.Lock()
	streams := slices.Collect(maps.Keys(s.streams))
	s.mu.Unlock()
	all := make([]Client, 0, len(streams))
	for _, c := range streams {
		all = append(all, *c.shown.Load())
	}
	slices.SortFunc(all, func(a, b Client) int { return cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Addr, b.Addr)) })
	return all
}

// show updates shown. The caller holds mu, or the stream is not in streams yet.
func (c *stream) show() {
	shown := c.client
	shown.Types = c.core.Types()
	c.shown.Store(&shown)
}
