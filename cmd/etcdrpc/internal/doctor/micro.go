package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// microNames returns the services that go-micro's callers call at an address, and that its entry there does not publish: they
// put the name of the service in go-micro where gRPC has the proto package.
func (x *subject) microNames(addr string) (names []string) {
	for _, i := range x.Instances {
		name, published := survey.MicroName(i.Entry), servicesOf(&i)
		if i.Layout != endpoint.GoMicro || i.Addr != addr || name == "" {
			continue
		}
		for _, service := range published {
			called := name + "." + service[strings.LastIndexByte("."+service, '.'):]
			if !slices.Contains(published, called) {
				names = append(names, called)
			}
		}
	}
	return names
}

// checkMicroNames finds the servers that go-micro's callers get Unimplemented from, as far as they do not say otherwise.
func (x *subject) checkMicroNames() {
	var where, names []string
	for _, i := range x.Instances {
		for _, name := range x.microNames(i.Addr) {
			if a, asked := x.heard[spot{x.Key, i.Addr}].health[name]; i.Layout == endpoint.GoMicro && (!asked || a.unknown) {
				where, names = append(where, i.Entry.Key), append(names, name)
			}
		}
	}
	if len(names) > 0 {
		x.report(KindMicroName, fmt.Sprintf("go-micro's callers call /%s/METHOD, by the name in the entry, which a gRPC server answers with Unimplemented: it serves its proto package", names[0]),
			MicroCure+"; where they do, --deep hears so", output.FirstOf(slices.Compact(where))...)
	}
}

// MicroCure is how a gRPC server answers go-micro's callers.
const MicroCure = "have servers register a copy of the grpc.ServiceDesc with that ServiceName, too (docs/migration.md, go-micro), or move the callers first"
