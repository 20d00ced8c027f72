// Package vouch holds the tests by which the real etcd vouches for the model of it.
package vouch

import (
	_ "github.com/etcdrpc/protoc-gen-go-etcd/etcdtest" // the real etcd
	_ "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	_ "go.etcd.io/etcd/api/v3/etcdserverpb"
	_ "go.etcd.io/etcd/client/v3"
	_ "go.uber.org/zap"
	_ "google.golang.org/grpc"
	_ "google.golang.org/protobuf/proto"
)
