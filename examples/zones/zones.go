// Package zones keeps calls in the caller's own zone while the service runs there. Run it from the directory above:
//
//	go run . zones
//
// shop/v1/catalog.proto says it in one line: load_balancing: {prefer_zone: true}. The example
// starts two servers in zone eu-1a and one in eu-1b, and a caller in eu-1a. Its calls stay there,
// spill over when both servers of the zone have left, and come back when there is one again. A caller
// that does not say where it is calls all servers. It exits with 1 when a call went elsewhere.
package zones

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	shopv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/shop/gen/shop/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

const calls = 1000

// Example is what the command in the directory above runs.
var Example = show.Example{Name: "zones", Tell: tell}

func tell(ctx context.Context, stage *show.Stage) error {
	near1, err := serve(ctx, stage, "near-1", "eu-1a")
	if err != nil {
		return err
	}
	near2, err := serve(ctx, stage, "near-2", "eu-1a")
	if err != nil {
		return err
	}
	if _, err := serve(ctx, stage, "far", "eu-1b"); err != nil {
		return err
	}
	local, err := client(stage, runtime.WithZone("eu-1a"))
	if err != nil {
		return err
	}
	nowhere, err := client(stage)
	if err != nil {
		return err
	}
	if err := reaches(ctx, stage, "caller in eu-1a", local, "near-1", "near-2"); err != nil {
		return err
	}
	if err := reaches(ctx, stage, "caller without a zone", nowhere, "near-1", "near-2", "far"); err != nil {
		return err
	}
	for _, server := range []*show.Server{near1, near2} {
		if err := server.Stop(); err != nil {
			return err
		}
	}
	if err := reaches(ctx, stage, "caller in eu-1a, whose servers have left", local, "far"); err != nil {
		return err
	}
	if _, err := serve(ctx, stage, "near-3", "eu-1a"); err != nil {
		return err
	}
	return reaches(ctx, stage, "caller in eu-1a, which has one again", local, "near-3")
}

// serve starts a server in a zone. Registries are one a process, and so is the zone: what a
// registry registers carries it, and what it calls prefers it.
func serve(ctx context.Context, stage *show.Stage, name, zone string) (*show.Server, error) {
	registry, err := stage.Registry(runtime.WithZone(zone))
	if err != nil {
		return nil, err
	}
	return stage.Serve(ctx, name, registry, func(server *runtime.Server) {
		shopv1.RegisterCatalogServerToEtcd(server, catalog{name: name}, runtime.WithInstance(name))
	})
}

type catalog struct {
	shopv1.UnimplementedCatalogServer
	name string
}

func (c catalog) Find(context.Context, *shopv1.FindRequest) (*shopv1.FindResponse, error) {
	return &shopv1.FindResponse{Server: c.name}, nil
}

func client(stage *show.Stage, opts ...runtime.Option) (shopv1.CatalogClient, error) {
	registry, err := stage.Registry(opts...)
	if err != nil {
		return nil, err
	}
	return shopv1.NewCatalogClientFromEtcd(registry, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// reaches waits until the caller's calls reach exactly these servers, and then counts.
func reaches(ctx context.Context, stage *show.Stage, caller string, client shopv1.CatalogClient, servers ...string) error {
	find := func(ctx context.Context) (string, error) {
		reply, err := client.Find(ctx, &shopv1.FindRequest{Item: "tea"})
		return reply.GetServer(), err
	}
	err := stage.Until(ctx, fmt.Sprintf("%s reaches %v", caller, servers), func(ctx context.Context) (bool, error) {
		shares, err := show.Count(ctx, 50, find)
		return shares.Only(servers...), err
	})
	if err != nil {
		return err
	}
	shares, err := show.Count(ctx, calls, find)
	if err != nil {
		return err
	}
	if !shares.Only(servers...) {
		return fmt.Errorf("%s: of %d calls went %v, want none but to %v", caller, calls, shares, servers)
	}
	stage.Say("%s: %v", caller, shares)
	return nil
}
