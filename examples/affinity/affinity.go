// Package affinity sends all calls for a reader to the same server, from every caller. Run it from the directory above:
//
//	go run . affinity
//
// testdata/connect/library.proto declares that by affinity: "reader.id". Two callers each make two calls for each of 200 readers, to
// four servers. Then one server leaves: its readers move, and hardly any other reader. The command exits with 1 if the calls for a reader
// reach two servers, or if more than 1.5/N of the readers move when one of N servers leaves.
package affinity

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	libraryv1 "github.com/etcdrpc/protoc-gen-go-etcd/testdata/connect"
)

const readers = 200

// Example is the entry point for the command in the directory above.
var Example = show.Example{Name: "affinity", Tell: tell}

func tell(ctx context.Context, stage *show.Stage) error {
	registry, err := stage.Registry()
	if err != nil {
		return err
	}
	stops := make(map[string]func() error)
	for _, name := range []string{"library-1", "library-2", "library-3", "library-4"} {
		stops[name], err = stage.Serve(ctx, grpc.NewServer(), name, registry, func(server *runtime.Server) {
			libraryv1.RegisterLibraryServerToEtcd(server, library{name: name}, runtime.WithInstance(name))
		})
		if err != nil {
			return err
		}
	}
	var callers []libraryv1.LibraryClient
	for range 2 {
		registry, err := stage.Registry()
		if err != nil {
			return err
		}
		caller, err := libraryv1.NewLibraryClientFromEtcd(registry, show.Plaintext)
		if err != nil {
			return err
		}
		err = stage.Until(ctx, "all servers are called", func(ctx context.Context) (bool, error) {
			_, shares, err := homes(ctx, caller)
			return len(shares) == len(stops), err
		})
		if err != nil {
			return err
		}
		callers = append(callers, caller)
	}
	before, had, err := homes(ctx, append(callers, callers...)...)
	if err != nil {
		return err
	}
	stage.Say("%d readers, 4 calls each from two callers, each reader at one server: %v", readers, had)

	const leaver = "library-3"
	if err := stops[leaver](); err != nil {
		return err
	}
	var after map[string]string
	var has show.Shares
	err = stage.Until(ctx, leaver+" has left", func(ctx context.Context) (bool, error) {
		after, has, err = homes(ctx, callers[0])
		return has[leaver] == 0, err
	})
	if err != nil {
		return err
	}
	moved := 0
	for reader, server := range before {
		if after[reader] != server {
			moved++
		}
	}
	stage.Say("%s left, with %d readers: %d moved: %v", leaver, had[leaver], moved, has)
	if moved*len(stops)*2 > readers*3 { // rebuilding the ring also moves a few other readers
		return fmt.Errorf("%d of %d readers moved when a server left, want at most %d", moved, readers, readers*3/(2*len(stops)))
	}
	return nil
}

// library answers with its name.
type library struct {
	libraryv1.UnimplementedLibraryServer
	name string
}

func (l library) Borrow(context.Context, *libraryv1.BorrowRequest) (*libraryv1.BorrowReply, error) {
	return &libraryv1.BorrowReply{Server: l.name}, nil
}

// homes makes each caller call for each reader, and returns the server of each reader and the number of readers of each server. It fails
// if two servers answer for one reader.
func homes(ctx context.Context, callers ...libraryv1.LibraryClient) (at map[string]string, shares show.Shares, err error) {
	at, shares = make(map[string]string), make(show.Shares)
	for i := range readers {
		reader := fmt.Sprintf("reader-%d", i)
		for _, caller := range callers {
			reply, err := caller.Borrow(ctx, &libraryv1.BorrowRequest{Reader: &libraryv1.Reader{Id: reader}})
			if err != nil {
				return nil, nil, err
			}
			if previous, ok := at[reader]; ok && previous != reply.GetServer() {
				return nil, nil, fmt.Errorf("the calls for %s reached %s and %s, want one server", reader, previous, reply.GetServer())
			}
			at[reader] = reply.GetServer()
		}
		shares[at[reader]]++
	}
	return at, shares, nil
}
