package gen

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// checkAffinity notes what is wrong with the affinity of a method whose service has
// the given load balancing.
func checkAffinity(m *method, lb *discoveryv1.LoadBalancing) {
	path := m.options.GetAffinity()
	if path == "" {
		return
	}
	at := m.option.in("affinity")
	switch _, err := affinityField(m.proto.Desc.Input(), path); {
	case m.proto.Desc.IsStreamingClient():
		at.problem("is for methods with one request, and this one streams them: leave it out")
	case err != nil:
		at.problem("%q %v", path, err)
	}
	if policy := policyName(lb); policy != "" && policy != "ring_hash" {
		at.problem("needs the policy ring_hash, but the service has %s: name ring_hash, or no policy", policy)
	}
}

// policyName returns the field of the policy that is set, "" for none.
func policyName(lb *discoveryv1.LoadBalancing) protoreflect.Name {
	m := lb.ProtoReflect()
	if fd := m.WhichOneof(m.Descriptor().Oneofs().ByName("policy")); fd != nil {
		return fd.Name()
	}
	return ""
}

// affinityField follows the path of an affinity through a request, to the field whose
// value it is. An error goes on after the path.
func affinityField(request protoreflect.MessageDescriptor, path string) (protoreflect.FieldDescriptor, error) {
	names := strings.Split(path, ".")
	if slices.Contains(names, "") {
		return nil, errors.New(`is no path: name fields with a single dot between them, such as "user.id"`)
	}
	var last protoreflect.FieldDescriptor
	message := request
	for _, name := range names {
		if last != nil && message == nil {
			return nil, fmt.Errorf("goes on after %s, which has no fields: end it there", last.Name())
		}
		field, err := singularField(message, name)
		if err != nil {
			return nil, err
		}
		last, message = field, field.Message()
	}
	switch last.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return nil, fmt.Errorf("ends at the message %s: go on to one of its fields", message.FullName())
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return nil, fmt.Errorf("ends at a %v, whose equal values are not spelled alike: take a field of another type", last.Kind())
	}
	return last, nil
}

func singularField(message protoreflect.MessageDescriptor, name string) (protoreflect.FieldDescriptor, error) {
	field := message.Fields().ByName(protoreflect.Name(name))
	switch {
	case field == nil && message.Fields().ByJSONName(name) != nil:
		return nil, fmt.Errorf("spells a field of %s %q: write %s, as the proto file does",
			message.FullName(), name, message.Fields().ByJSONName(name).Name())
	case field == nil:
		return nil, fmt.Errorf("leads nowhere, for %s has no field %q: name one that it has", message.FullName(), name)
	case field.IsMap():
		return nil, fmt.Errorf("leads through the map %s: take a field that has one value", name)
	case field.IsList():
		return nil, fmt.Errorf("leads through the repeated field %s: take a field that has one value", name)
	}
	return field, nil
}
