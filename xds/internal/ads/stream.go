// Package ads is the aggregated discovery service of xDS, in its
// state-of-the-world variant.
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

// Source looks up the resources that a Server sends.
type Source interface {
	// Find looks up a resource for a client. After a call of Find, the source
	// calls [Server.Changed] at each change of the resources of the same
	// authority.
	Find(k Kind, name string, client mapping.Client) Found
}

// Server is the aggregated discovery service. It is safe for concurrent use.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	source Source
	logger *slog.Logger

	mu sync.Mutex

	// the authorities that the client of a stream asks for, sorted
	streams map[*stream][]string

	refusals loglimit.Limiter
}

// NewServer returns a server of the source's resources.
func NewServer(source Source, logger *slog.Logger) *Server {
	return &Server{source: source, logger: logger, streams: make(map[*stream][]string)}
}

// Changed makes the streams of clients that ask for an authority look its
// resources up again. It does not block.
func (s *Server) Changed(authority string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	for c, authorities := range s.streams {
		if _, asks := slices.BinarySearch(authorities, authority); asks {
			c.notify()
		}
	}
}

// stream is the stream of one client.
type stream struct {
	server  *Server
	grpc    discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer
	changed chan struct{} // holds a value if a resource of the client may have changed

	mu     sync.Mutex // guards core, client and inputs
	core   Core
	client Client
	inputs mapping.Client
}

// Client describes a connected client. Texts from the client are escaped, and
// cut to 300 bytes.
type Client struct {
	ID    string // from the client's bootstrap file, "" before its first request
	Agent string // implementation and version of gRPC
	Zone  string // "" for none
	Addr  string // the address that it connects from
	Types []Type // of the resources that it asks for
}

// StreamAggregatedResources implements the service.
func (s *Server) StreamAggregatedResources(
	g discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer,
) error {
	c := &stream{server: s, grpc: g, changed: make(chan struct{}, 1)}
	if p, ok := peer.FromContext(g.Context()); ok {
		c.client.Addr = fmt.Sprint(p.Addr)
	}

	s.mu.Lock()
	s.streams[c] = nil
	s.mu.Unlock()

	defer func() {
		s.mu.Lock()
		delete(s.streams, c)
		s.mu.Unlock()
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
		}

		waits, err := c.answer()
		if err != nil {
			return err
		}

		timer.Stop()

		if waits {
			timer.Reset(upcomingTime)
		}
	}
}

// receive handles requests. It does not wait for answers, because a client may
// send requests without reading.
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
	kind, ok := KindOf(r.TypeUrl)
	if !ok {
		return nil // gRPC's clients do not use this type
	}

	refused := ""
	if r.ErrorDetail != nil {
		refused = cmp.Or(short(r.ErrorDetail.Message), "no reason given")
	}

	request := Request{
		Kind:    kind,
		Names:   r.ResourceNames,
		Nonce:   r.ResponseNonce,
		Refused: refused,
		Returns: r.VersionInfo != "",
	}

	c.mu.Lock()
	if c.client.ID == "" && r.Node != nil {
		c.identify(r.Node)
	}

	err := c.core.Request(request)
	authorities := c.core.Authorities()
	client := c.client.ID
	c.mu.Unlock()

	if err != nil {
		return status.Error(codes.ResourceExhausted, err.Error())
	}

	s := c.server
	logs := false
	missed := 0

	s.mu.Lock()
	if _, serves := s.streams[c]; serves {
		s.streams[c] = authorities
	}

	if refused != "" {
		logs, missed = s.refusals.Allow(time.Now())
	}

	s.mu.Unlock()

	if logs {
		attrs := loglimit.Attrs(missed,
			"client", client, "type", kind.String(), "why", refused)
		s.logger.Warn("a client rejected a response (NACK)", attrs...)
	}

	return nil
}

// identify stores the identity of the client, from its first request. It cuts
// long texts, because the source keeps them.
func (c *stream) identify(n *corev3.Node) {
	c.client.ID = short(n.Id)
	c.client.Agent = short(n.UserAgentName + " " + n.GetUserAgentVersion())
	c.client.Zone = short(n.GetLocality().GetZone())

	c.inputs.ID = c.client.ID
	c.inputs.Zone = c.client.Zone

	// C core 20 to 29, as in "C-core 29.0.0 Python 1.51.1"
	c.inputs.NoRing = strings.HasPrefix(n.GetUserAgentVersion(), "C-core 2")
}

// short makes a client's text safe to store and print.
func short(text string) string {
	return printable.Short(text, 300)
}

func (c *stream) notify() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// answer sends the answers that are due. If waits is true, call answer again
// after upcomingTime.
func (c *stream) answer() (waits bool, err error) {
	find := func(k Kind, name string) Found {
		return c.server.source.Find(k, name, c.inputs)
	}

	c.mu.Lock()
	answers, waits := c.core.Answers(time.Now(), find)
	c.mu.Unlock()

	for _, a := range answers {
		r := &discoveryv3.DiscoveryResponse{
			TypeUrl:     a.Kind.String(),
			VersionInfo: a.Version,
			Nonce:       a.Nonce,
			Resources:   make([]*anypb.Any, len(a.Resources)),
		}
		for i, resource := range a.Resources {
			r.Resources[i] = resource.Body
		}

		if err := c.grpc.Send(r); err != nil {
			return waits, err
		}
	}

	return waits, nil
}

// Clients returns the clients, sorted by id.
func (s *Server) Clients() []Client {
	s.mu.Lock()
	streams := slices.Collect(maps.Keys(s.streams))
	s.mu.Unlock()

	all := make([]Client, 0, len(streams))
	for _, c := range streams {
		c.mu.Lock()
		client := c.client
		client.Types = c.core.Types()
		c.mu.Unlock()

		all = append(all, client)
	}

	slices.SortFunc(all, func(a, b Client) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Addr, b.Addr))
	})

	return all
}
