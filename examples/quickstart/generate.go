// Package generate holds what "go generate" runs: it generates the code of the
// proto files and builds the programs.
package generate

// The first command adds to go.sum the plugin's checksum, which init cannot
// know.
//go:generate go mod download github.com/etcdrpc/protoc-gen-go-etcd
//go:generate go -C tools build -v -o ../bin/ github.com/bufbuild/buf/cmd/buf
//go:generate bin/buf generate
//go:generate go build -v -o bin/ ./server ./client
