package generator

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// TestOptionsAreDescribed says that each field of LoadBalancing is an option of the policy "etcd", but for those that are
// policies, and that the options that are not there are those of live configs alone.
func TestOptionsAreDescribed(t *testing.T) {
	fields := new(discoveryv1.LoadBalancing).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if o := serviceconfig.OptionNamed(field.JSONName()); o == nil && field.ContainingOneof() == nil && field.Name() != "outlier_detection" {
			t.Errorf("%s is not described", field.Name())
		}
	}
	for _, o := range serviceconfig.Options {
		field := fields.ByName(protoreflect.Name(o.Proto()))
		if o.LiveOnly != (field == nil) || field != nil && field.JSONName() != o.Name {
			t.Errorf("%s is %q in a proto file, and the field there is %v", o.Name, o.Proto(), field)
		}
	}
}
