module github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart-connect

go 1.26.0

replace github.com/etcdrpc/protoc-gen-go-etcd => ../..

replace github.com/etcdrpc/protoc-gen-go-etcd/connectetcd => ../../connectetcd

require (
	connectrpc.com/connect v1.21.1
	github.com/etcdrpc/protoc-gen-go-etcd v0.0.0
	github.com/etcdrpc/protoc-gen-go-etcd/connectetcd v0.0.0
	go.etcd.io/etcd/client/v3 v3.7.3
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)

require (
	connectrpc.com/grpchealth v1.5.0 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/coreos/go-semver v0.3.1 // indirect
	github.com/coreos/go-systemd/v22 v22.7.0 // indirect
	github.com/golang/protobuf v1.5.4 // indirect
	github.com/grpc-ecosystem/grpc-gateway/v2 v2.29.0 // indirect
	go.etcd.io/etcd/api/v3 v3.7.3 // indirect
	go.etcd.io/etcd/client/pkg/v3 v3.7.3 // indirect
	go.opentelemetry.io/otel v1.47.0 // indirect
	go.opentelemetry.io/otel/metric v1.47.0 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	go.uber.org/zap v1.28.0 // indirect
	golang.org/x/net v0.61.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/api v0.0.0-20260904194346-d0f1323225a4 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260904194346-d0f1323225a4 // indirect
)

tool github.com/etcdrpc/protoc-gen-go-etcd/cmd/protoc-gen-go-etcd
