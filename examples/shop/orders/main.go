// Command orders takes the orders of customers. It calls stock.
package main

import (
	"context"

	"google.golang.org/grpc/status"

	shopv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/shop/gen/shop/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/examples/shop/internal/service"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

type orders struct {
	shopv1.UnimplementedOrdersServiceServer
	stock shopv1.StockServiceClient
}

func main() {
	service.Main(func(p *service.Process) error {
		stock, err := shopv1.NewStockServiceClientFromEtcd(p.Registry, p.Dial)
		if err != nil {
			return err
		}

		shopv1.RegisterOrdersServiceServerToEtcd(p.Server, orders{stock: stock},
			runtime.WithVersion(p.Version))

		return nil
	})
}

func (o orders) PlaceOrder(
	ctx context.Context,
	req *shopv1.PlaceOrderRequest,
) (*shopv1.PlaceOrderResponse, error) {
	checked, err := o.stock.CheckItem(ctx, &shopv1.CheckItemRequest{Item: req.GetItem()})
	if err != nil {
		return nil, status.Errorf(status.Code(err), "check %q: %v", req.GetItem(), err)
	}

	return &shopv1.PlaceOrderResponse{StockVersion: checked.GetVersion()}, nil
}
