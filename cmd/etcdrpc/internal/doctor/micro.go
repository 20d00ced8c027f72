package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Bounds of the names that an entry makes. It has the name of its service once, and each of these begins with that: without bounds
// they would take thousands of times as much as the entry.
const (
	maxMicroName  = 255 // bytes of the name of a service in go-micro
	maxMicroNames = 16
)

// microNames returns the services that go-micro's callers call at an instance, and that its entry does not publish: they put the
// name of the service in go-micro where gRPC has the proto package. Of many it returns the first.
func microNames(i *survey.Instance) (names []string) {
	if i.Layout != endpoint.GoMicro {
		return nil
	}
	name, published := survey.MicroName(i.Entry), servicesOf(i)
	if name == "" || len(name) > maxMicroName {
		return nil
	}
	for _, service := range published {
		if len(names) == maxMicroNames {
			break
		}
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
