// Package leader has one server at a time hand out numbers, elected among three. Run it from the directory above:
//
//	go run . leader
//
// shop/v1/invoices.proto says it in one line: to: LEADER. Numbers go to a store that refuses whoever no longer
// leads. The leader drains, then the next one does, while callers go on: every number is handed out once. The
// example exits with 1 when a number is missing or there twice.
package leader

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	shopv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/shop/gen/shop/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
)

// Example is what the command in the directory above runs.
var Example = show.Example{Name: "leader", Tell: tell}

func tell(ctx context.Context, stage *show.Stage) error {
	numbers := new(store)
	servers := make(map[string]*show.Server)
	for i := range 3 {
		server, err := serve(ctx, stage, fmt.Sprintf("invoices-%d", i+1), numbers)
		if err != nil {
			return err
		}
		servers[server.Name] = server
	}
	registry, err := stage.Registry()
	if err != nil {
		return err
	}
	client, err := shopv1.NewInvoicesClientFromEtcd(registry, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	last, leads := int64(0), ""
	for range servers {
		for i := range 100 {
			reply, err := client.NextNumber(ctx, &shopv1.NextNumberRequest{})
			if err != nil {
				return err
			}
			if reply.GetNumber() != last+1 || i > 0 && reply.GetServer() != leads {
				return fmt.Errorf("%s gave the number %d after %d of %s", reply.GetServer(), reply.GetNumber(), last, leads)
			}
			last, leads = reply.GetNumber(), reply.GetServer()
		}
		stage.Say("%s leads: numbers up to %d", leads, last)
		if err := servers[leads].Stop(); err != nil {
			return err
		}
	}
	return nil
}

// serve serves invoices from a registry of its own, as a process does.
func serve(ctx context.Context, stage *show.Stage, name string, numbers *store) (*show.Server, error) {
	registry, err := stage.Registry()
	if err != nil {
		return nil, err
	}
	impl := &invoices{name: name, leads: leader.Of(registry, &shopv1.Invoices_EtcdServiceDesc), numbers: numbers}
	server := grpc.NewServer(leader.Guard(registry, &shopv1.Invoices_EtcdServiceDesc)...)
	return stage.ServeOn(ctx, server, name, registry, func(server *runtime.Server) {
		shopv1.RegisterInvoicesServerToEtcd(server, impl, runtime.WithInstance(name))
	})
}

type invoices struct {
	shopv1.UnimplementedInvoicesServer
	name    string
	leads   *leader.Leadership
	numbers *store
}

func (i *invoices) NextNumber(context.Context, *shopv1.NextNumberRequest) (*shopv1.NextNumberResponse, error) {
	token, ok := i.leads.Token()
	if !ok {
		return nil, status.Error(codes.Unavailable, "this server no longer leads")
	}
	number, err := i.numbers.next(token)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &shopv1.NextNumberResponse{Number: number, Server: i.name}, nil
}

// store keeps the last number. It stands for a database that keeps the highest token beside it.
type store struct {
	mu    sync.Mutex
	fence leader.Fence
	last  int64
}

func (s *store) next(token int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fence.Admit(token); err != nil {
		return 0, err
	}
	s.last++
	return s.last, nil
}
