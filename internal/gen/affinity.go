package gen

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"

	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// checkAffinity reports problems of the affinity of a method, given its service's load balancing.
func checkAffinity(m *method, lb *discoveryv1.LoadBalancing) {
	path := m.options.GetAffinity()
	if path == "" {
		return
	}
	at := m.option.in("affinity")
	switch _, err := affinityPath(m.proto.Input, path); {
	case m.proto.Desc.IsStreamingClient():
		at.problem("is for methods with one request, and this one streams them: leave it out")
	case err != nil:
		at.problem("%q %v", path, err)
	}
	if policy := policyName(lb); policy != "" && policy != "ring_hash" {
		at.problem("needs the policy ring_hash, but the service has %s: name ring_hash, or no policy", policy)
	}
}

// policyName returns the field of the policy that is set, "" if none is.
func policyName(lb *discoveryv1.LoadBalancing) protoreflect.Name {
	m := lb.ProtoReflect()
	if fd := m.WhichOneof(m.Descriptor().Oneofs().ByName("policy")); fd != nil {
		return fd.Name()
	}
	return ""
}

// affinityPath returns the fields on the path of an affinity through a request: messages, and last
// the field with the value. The error is a predicate of the path.
func affinityPath(request *protogen.Message, path string) ([]*protogen.Field, error) {
	names := strings.Split(path, ".")
	if slices.Contains(names, "") {
		return nil, errors.New(`is no path: name fields with a single dot between them, such as "user.id"`)
	}
	var fields []*protogen.Field
	message := request
	for _, name := range names {
		if message == nil {
			return nil, fmt.Errorf("goes on after %s, which has no fields: end it there", fields[len(fields)-1].Desc.Name())
		}
		field, err := singularField(message, name)
		if err != nil {
			return nil, err
		}
		fields = append(fields, field)
		message = field.Message
	}
	last := fields[len(fields)-1].Desc
	switch kind := last.Kind(); {
	case kind == protoreflect.MessageKind || kind == protoreflect.GroupKind:
		return nil, fmt.Errorf("ends at the message %s: go on to one of its fields", message.Desc.FullName())
	case kind == protoreflect.FloatKind || kind == protoreflect.DoubleKind:
		return nil, fmt.Errorf("ends at a %v, whose equal values are not spelled alike: take a field of another type", kind)
	case kind == protoreflect.BoolKind && last.Default().Bool():
		return nil, errors.New("ends at a bool that is true by default, so that no call would have an affinity: take another field")
	}
	return fields, nil
}

func singularField(message *protogen.Message, name string) (*protogen.Field, error) {
	i := slices.IndexFunc(message.Fields, func(field *protogen.Field) bool { return string(field.Desc.Name()) == name })
	if i < 0 {
		if other := message.Desc.Fields().ByJSONName(name); other != nil {
			return nil, fmt.Errorf("spells a field of %s %q: write %s, as the proto file does", message.Desc.FullName(), name, other.Name())
		}
		return nil, fmt.Errorf("leads nowhere, for %s has no field %q: name one that it has", message.Desc.FullName(), name)
	}
	field := message.Fields[i]
	switch {
	case field.Desc.IsMap():
		return nil, fmt.Errorf("leads through the map %s: take a field that has one value", name)
	case field.Desc.IsList():
		return nil, fmt.Errorf("leads through the repeated field %s: take a field that has one value", name)
	}
	return field, nil
}
