// Package affinity has all calls for a user reach the same server, whoever makes them. Run it from
// the directory above:
//
//	go run . affinity
//
// shop/v1/carts.proto says it in one line: affinity: "user.id". The example starts four servers
// that keep carts in memory, and two callers with connections of their own that fill the carts of
// 200 users in turn: no cart is ever found half empty, which it would be had a call gone elsewhere.
// Then one server leaves: its users move, and hardly any other. It exits with 1 when a cart is in
// pieces, or when more than 1.5/N of the users moved.
package affinity

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	shopv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/shop/gen/shop/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

const users = 200

// Example is what the command in the directory above runs.
var Example = show.Example{Name: "affinity", Tell: tell}

func tell(ctx context.Context, stage *show.Stage) error {
	servers, err := stage.Registry()
	if err != nil {
		return err
	}
	var all []*show.Server
	for i := range 4 {
		server, err := serve(ctx, stage, servers, fmt.Sprintf("cart-%d", i+1))
		if err != nil {
			return err
		}
		all = append(all, server)
	}
	alice, err := client(ctx, stage, len(all))
	if err != nil {
		return err
	}
	bob, err := client(ctx, stage, len(all))
	if err != nil {
		return err
	}
	before, err := fill(ctx, alice, bob)
	if err != nil {
		return err
	}
	stage.Say("%d users, 4 items each from two callers, no cart in pieces: %v", users, count(before))

	leaver := all[2]
	if err := leaver.Stop(); err != nil {
		return err
	}
	err = stage.Until(ctx, leaver.Name+" has left", func(ctx context.Context) (bool, error) {
		homes, err := where(ctx, alice)
		return count(homes)[leaver.Name] == 0, err
	})
	if err != nil {
		return err
	}
	after, err := where(ctx, alice)
	if err != nil {
		return err
	}
	return compare(stage, leaver.Name, before, after)
}

func serve(ctx context.Context, stage *show.Stage, registry *runtime.Registry, name string) (*show.Server, error) {
	carts := &carts{name: name, items: make(map[string][]string)}
	return stage.Serve(ctx, name, registry, func(server *runtime.Server) {
		shopv1.RegisterCartsServerToEtcd(server, carts, runtime.WithInstance(name))
	})
}

// carts keeps carts in memory, by user.
type carts struct {
	shopv1.UnimplementedCartsServer
	name string

	mu    sync.Mutex
	items map[string][]string
}

func (c *carts) AddItem(_ context.Context, req *shopv1.AddItemRequest) (*shopv1.AddItemResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	user := req.GetUser().GetId()
	if req.GetItem() != "" {
		c.items[user] = append(c.items[user], req.GetItem())
	}
	return &shopv1.AddItemResponse{Items: c.items[user], Server: c.name}, nil
}

// client returns a caller on a connection of its own, once that knows all servers.
func client(ctx context.Context, stage *show.Stage, servers int) (shopv1.CartsClient, error) {
	registry, err := stage.Registry()
	if err != nil {
		return nil, err
	}
	client, err := shopv1.NewCartsClientFromEtcd(registry, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return client, stage.Until(ctx, "all servers are known", func(ctx context.Context) (bool, error) {
		homes, err := where(ctx, client)
		return len(count(homes)) == servers, err
	})
}

// fill puts four items in every cart, from the callers in turn, and returns where each user was.
func fill(ctx context.Context, callers ...shopv1.CartsClient) (map[string]string, error) {
	homes := make(map[string]string)
	for i := range users {
		user := fmt.Sprintf("user-%d", i)
		for n := range 4 {
			reply, err := callers[n%len(callers)].AddItem(ctx, &shopv1.AddItemRequest{
				User: &shopv1.User{Id: user}, Item: fmt.Sprintf("item %d", n),
			})
			if err != nil {
				return nil, err
			}
			if got := len(reply.GetItems()); got != n+1 {
				return nil, fmt.Errorf("%s has %d items on %s after %d were put", user, got, reply.GetServer(), n+1)
			}
			homes[user] = reply.GetServer()
		}
	}
	return homes, nil
}

// where asks for the server of each user.
func where(ctx context.Context, caller shopv1.CartsClient) (map[string]string, error) {
	homes := make(map[string]string)
	for i := range users {
		user := fmt.Sprintf("user-%d", i)
		reply, err := caller.AddItem(ctx, &shopv1.AddItemRequest{User: &shopv1.User{Id: user}})
		if err != nil {
			return nil, err
		}
		homes[user] = reply.GetServer()
	}
	return homes, nil
}

func count(homes map[string]string) show.Shares {
	shares := make(show.Shares)
	for _, server := range homes {
		shares[server]++
	}
	return shares
}

// compare fails if more than 1.5/N of the users moved. Those of the server that left had to; a few
// others do because the ring deals its places out anew among the servers that are left.
func compare(stage *show.Stage, left string, before, after map[string]string) error {
	orphans, others := 0, 0
	for user, server := range before {
		switch {
		case server == left:
			orphans++
		case after[user] != server:
			others++
		}
	}
	stage.Say("%s left: its %d users moved, and %d of the other %d: %v", left, orphans, others, users-orphans, count(after))
	if servers := len(count(before)); (orphans+others)*servers*2 > users*3 {
		return fmt.Errorf("%d of %d users moved when one of %d servers left", orphans+others, users, servers)
	}
	return nil
}
