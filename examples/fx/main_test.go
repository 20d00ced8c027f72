package main

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/fx"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/showtest"
)

func TestFx(t *testing.T) {
	showtest.Run(t, tell, "hello, fx", "nothing is left in etcd")
}

func TestGraph(t *testing.T) {
	if err := fx.ValidateApp(fx.Supply(clientv3.Config{}), Module); err != nil {
		t.Error(err)
	}
}
