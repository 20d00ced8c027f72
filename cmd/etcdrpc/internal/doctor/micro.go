package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// microNames returns the services that go-micro's callers call at an instance, and that its entry does not publish: they put the
// name of the service in go-micro where gRPC has the proto package.
func microNames(i *survey.Instance) (names []string) {
	if i.Layout != endpoint.GoMicro {
		return nil
	}
	name, published := survey.MicroName(i.Entry), servicesOf(i)
	if name == "" {
		return nil
	}
	for _, service := range published {
		called := name + "." + service[strings.LastIndexByte("."+service, '.'):]
		if !slices.Contains(published, called) {
			names = append(names, called)
		}
	}
	return names
}

// checkMicroNames finds the servers that go-micro's callers get Unimplemented from, as far as they do not say otherwise.
func (x *subject) checkMicroNames() {
	var where, names []string
	for _, i := range x.Instances {
		for _, name := range microNames(&i) {
			if a, asked := x.heard[spot{x.Key, i.Addr}].health[name]; !asked || a.unknown {
				where, names = append(where, i.Entry.Key), append(names, name)
			}
		}
	}
	if len(names) > 0 {
		x.report(KindMicroName, fmt.Sprintf("go-micro's callers call /%s/METHOD, by the name in the entry, which a gRPC server answers with Unimplemented: it serves its proto package", names[0]),
			MicroCure+"; if they do, run --deep, which asks them", output.FirstOf(slices.Compact(where))...)
	}
}

// MicroCure is how a gRPC server answers go-micro's callers.
const MicroCure = "have servers register a copy of the grpc.ServiceDesc with that ServiceName, too (docs/migration.md, go-micro), or move the callers first"
