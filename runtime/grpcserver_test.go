package runtime

import (
	"log/slog"
	"net"
	"testing"

	"google.golang.org/grpc"
)

type server interface {
	Serve(net.Listener) error
	Stop()
}

// embedding is a server as a caller may wrap it.
type embedding struct {
	name string
	*grpc.Server
}

// inXDS is built as *xds.GRPCServer is: around an interface that holds the gRPC server.
type inXDS struct {
	logger *slog.Logger
	gs     server
}

func (s *inXDS) Serve(lis net.Listener) error { return s.gs.Serve(lis) }
func (s *inXDS) Stop()                        { s.gs.Stop() }

// A newer gRPC that keeps its state elsewhere fails here.
func TestIsServing(t *testing.T) {
	for name, s := range map[string]server{
		"plain": grpc.NewServer(), "embedded": embedding{"a", grpc.NewServer()}, "in xDS": &inXDS{slog.Default(), grpc.NewServer()},
		"embedded xDS": struct{ *inXDS }{&inXDS{slog.Default(), grpc.NewServer()}},
	} {
		if isServing(s) {
			t.Errorf("%s: serves before Serve", name)
		}
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve(lis) }()
		conn, err := net.Dial("tcp", lis.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil { // gRPC speaks first
			t.Fatal(err)
		}
		if !isServing(s) {
			t.Errorf("%s: does not serve after Serve", name)
		}
		conn.Close()
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("%s: Serve: %v", name, err)
		}
	}
}

func TestIsServing_OtherTypes(t *testing.T) {
	type opaque struct{ next *opaque }
	self := &opaque{}
	self.next = self
	for _, s := range []any{nil, (*grpc.Server)(nil), opaque{}, self, 7, struct{ s *grpc.Server }{}} {
		if isServing(s) {
			t.Errorf("%#v serves", s)
		}
	}
}
