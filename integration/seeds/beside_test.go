package seeds

import (
	"slices"
	"testing"

	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// theirReader is the reader of a system.
type theirReader struct {
	name   string
	layout runtime.Layout
	key    string
	dial   func(w *world) *grpc.ClientConn
}

var theirReaders = []theirReader{
	{"etcd naming", runtime.EndpointJSON, "my-service", func(w *world) *grpc.ClientConn {
		builder, err := resolver.NewBuilder(w.theirs)
		must(w.t, err)
		return w.dial("etcd:///my-service", builder)
	}},
	{"hanjm", runtime.EndpointJSON, "my-service", func(w *world) *grpc.ClientConn {
		return w.dial("hanjm:///my-service", hanjmResolver{w.theirs}.resolver())
	}},
	{"grpcEtcd", runtime.Plain, "/grpcEtcd/callee", func(w *world) *grpc.ClientConn {
		return w.dial("grpcEtcd://caller/callee", newGrpcEtcd(w.t, w.etcd.Endpoints()[0]).resolver())
	}},
	{"xiezengcheng", runtime.Plain, "/etcd", func(w *world) *grpc.ClientConn {
		return w.dial("etcd:///", w.xieResolver())
	}},
	{"lease suffix", runtime.LeaseSuffix, "hello", func(w *world) *grpc.ClientConn {
		return w.dial("suffix:///hello", w.suffixResolver())
	}},
	{"a tutorial's", tutorialLayout, "/user", func(w *world) *grpc.ClientConn { return w.tutorialConn("user") }},
	{"go-zero", runtime.GoZero, "user.rpc", func(w *world) *grpc.ClientConn {
		return w.dial("discov:///user.rpc", w.goZeroResolver())
	}},
}

// What ours write in a second layout is no harm to a reader of the first: what it does not
// understand it passes over, or takes for an address that gRPC then finds nobody at.
func TestLayouts_BesideTheirReaders(t *testing.T) {
	kit.Night(t)
	for _, reader := range theirReaders {
		t.Run(reader.name, func(t *testing.T) {
			w := newWorld(t)
			for _, second := range layouts {
				w.besideTheirReader(reader, second)
			}
		})
	}
}

func (w *world) besideTheirReader(reader theirReader, second layout) {
	w.t.Helper()
	first := layout{reader.layout, "KEY/INSTANCE", ""} // a home-made one
	if i := slices.IndexFunc(layouts, func(l layout) bool { return l.Layout == reader.layout }); i >= 0 {
		first = layouts[i]
	}
	// grpcEtcd reads the address off the key, where KITEX and GO_FRAME have it, too.
	byAddr := reader.name == "grpcEtcd"
	if first.sharesKey(second) || byAddr && second.key == "KEY/ADDR" {
		return
	}
	for _, s := range []*server{w.serve("a"), w.serve("b")} {
		endpoint := runtime.Endpoint{Instance: s.name, Addr: s.addr, Version: "v2"}
		if byAddr {
			endpoint.Instance = s.addr
		}
		registration, err := w.newRegistry().Register(bounded(w.t), reader.key, endpoint, runtime.WithLayouts(first.Layout, second.Layout))
		must(w.t, err)
		defer func() {
			if err := registration.Close(bounded(w.t)); err != nil {
				w.t.Error(err)
			}
		}()
	}
	w.balanced(reader.dial(w), "a", "b")
}
