package runtime

import (
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// maxMethods bounds what is published of the methods, in bytes. Callers send any method to a server
// that publishes nothing.
const maxMethods = 16 << 10

// methods is the metadata that tells callers which methods a server serves, so that a call of a
// method that only the newer servers of a rollout have goes to them: for the given services, read
// from what is registered on the gRPC server.
func (s *Server) methods(services []string) map[string]string {
	info := s.grpc.GetServiceInfo()
	var parts []string
	for _, service := range slices.Sorted(slices.Values(services)) {
		registered, ok := info[service]
		if !ok {
			continue
		}
		names := make([]string, len(registered.Methods))
		for i, m := range registered.Methods {
			names[i] = m.Name
		}
		slices.Sort(names)
		parts = append(parts, service+"/"+strings.Join(names, ","))
	}
	text := strings.Join(parts, ";")
	if text == "" || len(text) > maxMethods {
		return nil
	}
	return map[string]string{endpoint.MethodsName: text}
}
