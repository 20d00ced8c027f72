// Package outlierdetection registers gRPC's load balancing policy
// outlier_detection in the binary that imports it:
//
//	import _ "github.com/etcdrpc/protoc-gen-go-etcd/outlierdetection"
//
// If the proto file of a service sets load_balancing.outlier_detection, the
// code that protoc-gen-go-etcd generates imports this package. Import the
// package by hand if only a service config names the policy: a live config in
// etcd, or the argument of runtime.WithDefaultServiceConfig. Without the
// import, such a config is refused: the policy outlier_detection_experimental
// is not known.
//
// gRPC for Go has the policy within its xDS support, and registers it only for
// binaries that import google.golang.org/grpc/xds. That adds about 22 MB to a
// binary and many modules to its go.sum. So this package is a module of its
// own: programs without outlier detection neither link nor download it.
package outlierdetection

// The policy comes with the rest of xDS support: gRPC has no smaller public
// package.
import _ "google.golang.org/grpc/xds"
