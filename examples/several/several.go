// Package several serves several services from one process. Run it from the directory above:
//
//	go run . several
//
// In shop/v1/orders.proto, Orders and Payments name the same key, because one process serves them always:
// they are one entry in etcd, and their callers share one watch. Catalog has a key of its own, so
// that it can move to a process of its own one day without its callers noticing. The example shows
// the entries, that all of them hang on one lease, and that they are gone when the server has
// drained. It exits with 1 when that is not so.
package several

import (
	"context"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	shopv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/shop/gen/shop/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Example is what the command in the directory above runs.
var Example = show.Example{Name: "several", Tell: tell}

func tell(ctx context.Context, stage *show.Stage) error {
	registry, err := stage.Registry()
	if err != nil {
		return err
	}
	server, err := stage.Serve(ctx, "shop", registry, func(server *runtime.Server) {
		shopv1.RegisterOrdersServerToEtcd(server, orders{})
		shopv1.RegisterPaymentsServerToEtcd(server, payments{})
		shopv1.RegisterCatalogServerToEtcd(server, catalog{}, runtime.WithMetadata("language", "en"))
	})
	if err != nil {
		return err
	}
	want := []string{"shop/catalog/" + server.Addr, "shop/orders/" + server.Addr}
	if err := entries(ctx, stage, "three services, two keys, one lease", want, 1); err != nil {
		return err
	}
	if err := buy(ctx, stage); err != nil {
		return err
	}
	if err := server.Stop(); err != nil {
		return err
	}
	return entries(ctx, stage, "after it has drained", nil, 0)
}

// entries compares what is in etcd with what should be.
func entries(ctx context.Context, stage *show.Stage, title string, want []string, leases int) error {
	found, err := stage.Etcd.Admin().Get(ctx, "shop/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	var keys []string
	on := make(map[int64]bool)
	for _, kv := range found.Kvs {
		keys = append(keys, string(kv.Key))
		on[kv.Lease] = true
	}
	if !slices.Equal(keys, want) || len(on) != leases {
		return fmt.Errorf("%s: in etcd are %q on %d leases, want %q on %d", title, keys, len(on), want, leases)
	}
	stage.Say("%s: [%s]", title, strings.Join(keys, ", "))
	return nil
}

// buy calls each of the services.
func buy(ctx context.Context, stage *show.Stage) error {
	registry, err := stage.Registry()
	if err != nil {
		return err
	}
	plaintext := grpc.WithTransportCredentials(insecure.NewCredentials())
	catalog, err := shopv1.NewCatalogClientFromEtcd(registry, plaintext)
	if err != nil {
		return err
	}
	orders, err := shopv1.NewOrdersClientFromEtcd(registry, plaintext)
	if err != nil {
		return err
	}
	payments, err := shopv1.NewPaymentsClientFromEtcd(registry, plaintext)
	if err != nil {
		return err
	}
	if _, err := catalog.Find(ctx, &shopv1.FindRequest{Item: "tea"}); err != nil {
		return err
	}
	order, err := orders.PlaceOrder(ctx, &shopv1.PlaceOrderRequest{Item: "tea"})
	if err != nil {
		return err
	}
	payment, err := payments.Pay(ctx, &shopv1.PayRequest{Order: order.GetOrder()})
	if err != nil {
		return err
	}
	stage.Say("a call to each: %s, %s", order.GetOrder(), payment.GetReceipt())
	return nil
}

type orders struct {
	shopv1.UnimplementedOrdersServer
}

func (orders) PlaceOrder(_ context.Context, req *shopv1.PlaceOrderRequest) (*shopv1.PlaceOrderResponse, error) {
	return &shopv1.PlaceOrderResponse{Order: "order of " + req.GetItem()}, nil
}

type payments struct {
	shopv1.UnimplementedPaymentsServer
}

func (payments) Pay(_ context.Context, req *shopv1.PayRequest) (*shopv1.PayResponse, error) {
	return &shopv1.PayResponse{Receipt: "receipt for " + req.GetOrder()}, nil
}

type catalog struct {
	shopv1.UnimplementedCatalogServer
}

func (catalog) Find(context.Context, *shopv1.FindRequest) (*shopv1.FindResponse, error) {
	return &shopv1.FindResponse{}, nil
}
