// Command stock knows what the shop can sell.
package main

import (
	"context"

	shopv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/shop/gen/shop/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/examples/shop/internal/service"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

type stock struct {
	shopv1.UnimplementedStockServiceServer
	version string
}

func main() {
	service.Main(func(p *service.Process) error {
		shopv1.RegisterStockServiceServerToEtcd(p.Server, stock{version: p.Version},
			runtime.WithVersion(p.Version))

		return nil
	})
}

func (s stock) CheckItem(
	context.Context,
	*shopv1.CheckItemRequest,
) (*shopv1.CheckItemResponse, error) {
	return &shopv1.CheckItemResponse{Version: s.version}, nil
}
