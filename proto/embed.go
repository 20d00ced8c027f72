// Package proto holds the proto files that users import, by the path they import
// them under.
package proto

import "embed"

// Files has etcd/discovery/v1/options.proto.
//
//go:embed etcd/discovery/v1/options.proto
var Files embed.FS
