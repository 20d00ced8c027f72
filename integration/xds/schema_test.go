package xds

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/authority"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/edition2024"
	lanespb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/lanes"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/layouts"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/methods"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/outlier"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds"
)

// generated holds the descriptions in the generated code of some services.
var generated = []*runtime.ServiceDesc{
	&authority.Host_EtcdServiceDesc, &authority.Port_EtcdServiceDesc, &authority.V4_EtcdServiceDesc,
	&authority.V6_EtcdServiceDesc,
	&edition2024.Edition2024_EtcdServiceDesc,
	&lanespb.Labelled_EtcdServiceDesc, &lanespb.Named_EtcdServiceDesc,
	&layouts.Unspecified_EtcdServiceDesc, &layouts.EndpointJson_EtcdServiceDesc, &layouts.Plain_EtcdServiceDesc,
	&layouts.LeaseSuffix_EtcdServiceDesc, &layouts.GoZero_EtcdServiceDesc, &layouts.Kratos_EtcdServiceDesc,
	&layouts.Kitex_EtcdServiceDesc, &layouts.GoFrame_EtcdServiceDesc, &layouts.GoMicro_EtcdServiceDesc,
	&layouts.HomeMade_EtcdServiceDesc, &layouts.HostAndPort_EtcdServiceDesc,
	&leaderpb.Counter_EtcdServiceDesc, &leaderpb.Schedule_EtcdServiceDesc,
	&methods.Methods_EtcdServiceDesc,
	&outlier.Failures_EtcdServiceDesc, &outlier.Everything_EtcdServiceDesc, &outlier.Defaults_EtcdServiceDesc,
}

// image returns an encoded image of some services, as buf builds it: with all
// files, but without the imports that are only for options.
func image(t *testing.T, services ...string) []byte {
	t.Helper()

	set := new(descriptorpb.FileDescriptorSet)
	seen := make(map[string]bool)
	var add func(protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}

		seen[file.Path()] = true

		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}

		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
		set.File[len(set.File)-1].OptionDependency = nil
	}

	add(discoveryv1.File_etcd_discovery_v1_options_proto)

	for _, name := range services {
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		kit.Must(t, err)
		add(found.ParentFile())
	}

	raw, err := proto.Marshal(set)
	kit.Must(t, err)

	return raw
}

// edited returns an image after edit has changed the options of each of its
// services.
func edited(t *testing.T, edit func(options *discoveryv1.ServiceOptions, n int)) []byte {
	t.Helper()

	set := new(descriptorpb.FileDescriptorSet)
	kit.Must(t, proto.Unmarshal(image(t, leaderpb.Counter_EtcdServiceDesc.Name,
		lanespb.Named_EtcdServiceDesc.Name), set))

	n := 0
	for _, file := range set.GetFile() {
		for _, service := range file.GetService() {
			if proto.HasExtension(service.GetOptions(), discoveryv1.E_Service) {
				options := proto.GetExtension(
					service.GetOptions(), discoveryv1.E_Service).(*discoveryv1.ServiceOptions)
				n++
				edit(options, n)
				proto.SetExtension(service.GetOptions(), discoveryv1.E_Service, options)
			}
		}
	}

	raw, err := proto.Marshal(set)
	kit.Must(t, err)

	return raw
}

// ReadImage returns the same descriptions for services as their generated code
// has.
func TestImage(t *testing.T) {
	byName := func(a, b *runtime.ServiceDesc) int { return strings.Compare(a.Name, b.Name) }

	packages := make(map[string][]*runtime.ServiceDesc)
	for _, desc := range generated {
		pkg := desc.Name[:strings.LastIndex(desc.Name, ".")]
		packages[pkg] = append(packages[pkg], desc)
	}

	for pkg, want := range packages {
		got, err := xds.ReadImage(image(t, want[0].Name))
		if err != nil {
			t.Errorf("ReadImage of package %s: %v, want success", pkg, err)
			continue
		}

		slices.SortFunc(got, byName)
		slices.SortFunc(want, byName)

		if len(got) != len(want) {
			t.Errorf("ReadImage of package %s: %d services, want %d", pkg, len(got), len(want))
			continue
		}

		for i, desc := range want {
			w := *desc
			w.LeaseTTL = 0 // an image has no TTL, which only servers use
			w.Authority = cmp.Or(w.Authority, got[i].Authority)
			w.ServiceConfig = cmp.Or(w.ServiceConfig, got[i].ServiceConfig)

			if got[i].Layout == nil { // clients read these layouts without a Layout
				w.Layout = nil
			}

			if !reflect.DeepEqual(*got[i], w) {
				t.Errorf("%s:\ngot  %+v\nwant %+v", desc.Name, *got[i], w)
			}
		}
	}
}

// NewServer accepts services of several images that contain the same files.
func TestImages_Shared(t *testing.T) {
	var all []*runtime.ServiceDesc
	for _, names := range [][]string{{"leader.Counter"}, {"leader.Counter", "lanes.Named"}} {
		found, err := xds.ReadImage(image(t, names...))
		kit.Must(t, err)
		all = append(all, found...)
	}

	_, err := xds.NewServer(runtime.NewRegistry(nil), all)
	kit.Must(t, err)
}

func TestBadImages(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		image      []byte
	}{
		{"nothing", "there are no file descriptors", nil},
		{"no descriptors", "parse the file descriptors", []byte("services")},
		{"no option", "no service has the option (etcd.discovery.v1.service)",
			image(t, "grpc.health.v1.Health")},
		{"two keys of one name", `gives the TLS name "acme.user"`, edited(t, func(
			options *discoveryv1.ServiceOptions,
			n int,
		) {
			options.Key = fmt.Sprint("acme/user", n)
			options.Authority = "acme.user"
		})},
		{"newer options", "upgrade", edited(t, func(options *discoveryv1.ServiceOptions, _ int) {
			options.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 1000,
				protowire.VarintType), 1))
		})},
	} {
		_, err := xds.ReadImage(tt.image)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ReadImage of an image with %s: %v, want an error with %q", tt.name, err,
				tt.want)
		}
	}

	for _, tt := range []struct {
		want     string
		services []*runtime.ServiceDesc
	}{
		{"there is no service", nil},
		{"has no Authority", []*runtime.ServiceDesc{{Name: "a.B", Key: "a/b"}}},
		{"servers of one could pose as the other's", []*runtime.ServiceDesc{
			{Key: "a", Authority: "x.example"}, {Key: "b", Authority: "X.example:1"}}},
		{"two different descriptions", []*runtime.ServiceDesc{{Key: "a", Authority: "x"},
			{Key: "a", Authority: "x", ServiceConfig: "{}"}}},
		{`not "nope"`, []*runtime.ServiceDesc{
			{Key: "a", Authority: "x", ServiceConfig: `{"loadBalancingConfig":[{"nope":{}}]}`}}},
	} {
		_, err := xds.NewServer(runtime.NewRegistry(nil), tt.services)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("NewServer: %v, want an error with %q", err, tt.want)
		}
	}
}
