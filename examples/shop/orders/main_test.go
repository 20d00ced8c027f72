package main

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	shopv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/shop/gen/shop/v1"
)

// soldOut is the client of an empty stock: the code under test cannot know
// where its client comes from.
type soldOut struct{}

func (soldOut) CheckItem(
	context.Context,
	*shopv1.CheckItemRequest,
	...grpc.CallOption,
) (*shopv1.CheckItemResponse, error) {
	return nil, status.Error(codes.ResourceExhausted, "sold out")
}

func TestPlaceOrder_SoldOut(t *testing.T) {
	_, err := orders{stock: soldOut{}}.PlaceOrder(t.Context(),
		&shopv1.PlaceOrderRequest{Item: "tea"})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("PlaceOrder returns %v, want the code of stock's error", err)
	}
}
