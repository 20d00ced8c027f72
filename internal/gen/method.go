package gen

import (
	"google.golang.org/protobuf/proto"

	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// checkMethod reports problems of the options of one method, except its affinity.
func checkMethod(s *service, m *method) {
	s.newer = checkNewer(m.option, m.options.ProtoReflect()) || s.newer
	s.methodConfig(m.option, "", m.options)
}

// takesRetryBack reports whether a method's options turn off the retry of default_method.
func takesRetryBack(retry *discoveryv1.Retry) bool {
	return proto.Equal(retry, &discoveryv1.Retry{MaxAttempts: 1})
}

// checkDefaultMethod reports problems of default_method, except unknown fields.
func checkDefaultMethod(s *service, options *discoveryv1.MethodOptions) {
	at := s.option.in("default_method")
	s.methodConfig(at, "", options)
	if options.GetAffinity() != "" {
		at.in("affinity").problem("belongs to one method, because it names a field of its request: leave it out here")
	}
}
