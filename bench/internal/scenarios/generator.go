package scenarios

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// The plugins that are compared.
const (
	peerGenerator = "protoc-gen-go-etcd"
	peerGRPC      = "protoc-gen-go-grpc"
)

var generatorScenario = &Scenario{
	run: runGenerator, Extra: true,
	Scenario: report.Scenario{
		Name: "generator", Title: "generating",
		About: "The plugin and gRPC's own generate for the same request, with the option on every service.",
		Peers: []string{peerGRPC, peerGenerator}, Own: peerGenerator, Base: peerGRPC,
		Metrics: []metric{
			{Name: "user CPU s", Ratio: true, Plot: true},
			{Name: "peak MB", Ratio: true, Plot: true},
			{Name: "files"},
		},
		Targets: []target{
			{Case: "*", Metric: "user CPU s", Limit: 0.8, Of: []string{peerGRPC}},
			{Case: "*", Metric: "peak MB", Limit: 1, Of: []string{peerGRPC}},
		},
	},
}

// runGenerator has the plugins generate for a large corpus of services.
func runGenerator(ctx context.Context, b *bench) error {
	request, name, err := corpus(b.Corpus)
	if err != nil {
		return err
	}
	plugins := map[string]string{
		peerGenerator: "github.com/etcdrpc/protoc-gen-go-etcd/cmd/protoc-gen-go-etcd",
		peerGRPC:      "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
	}
	for peer, pkg := range plugins {
		build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(b.dir, peer), pkg)
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return b.each(ctx, []string{peerGRPC, peerGenerator}, func(peer string, round int) error {
		var answer, trouble bytes.Buffer
		plugin := exec.CommandContext(ctx, filepath.Join(b.dir, peer))
		plugin.Stdin, plugin.Stdout, plugin.Stderr = bytes.NewReader(request), &answer, &trouble
		if err := plugin.Run(); err != nil {
			return fmt.Errorf("%w\n%s", err, trouble.Bytes())
		}
		var resp pluginpb.CodeGeneratorResponse
		if err := proto.Unmarshal(answer.Bytes(), &resp); err != nil {
			return err
		}
		if resp.Error != nil {
			return fmt.Errorf("%.1000s", *resp.Error)
		}
		usage := plugin.ProcessState.SysUsage().(*syscall.Rusage)
		b.record(name, peer, round, map[string]float64{
			"user CPU s": plugin.ProcessState.UserTime().Seconds(),
			"peak MB":    float64(usage.Maxrss) * 1024 / 1e6,
			"files":      float64(len(resp.File)),
		})
		return nil
	})
}

// corpus returns the request to generate for, with our option on each service: that in the file at
// path, or one made up.
func corpus(path string) (request []byte, name string, err error) {
	req := inventedCorpus()
	name = "1,800 invented services"
	if path != "" {
		if req, err = readCorpus(path); err != nil {
			return nil, "", fmt.Errorf("corpus %s: %w", path, err)
		}
	}
	services := 0
	for _, file := range req.ProtoFile {
		if len(file.Service) == 0 {
			continue
		}
		services += len(file.Service)
		file.Dependency = append(file.Dependency, discoveryv1.File_etcd_discovery_v1_options_proto.Path())
		for _, service := range file.Service {
			if service.Options == nil {
				service.Options = &descriptorpb.ServiceOptions{}
			}
			proto.SetExtension(service.Options, discoveryv1.E_Service, &discoveryv1.ServiceOptions{
				Key: "/services/" + file.GetPackage() + "." + service.GetName(),
			})
		}
	}
	if path != "" {
		name = fmt.Sprintf("%s, %d services", filepath.Base(path), services)
	}
	req.ProtoFile = withOptions(req.ProtoFile)
	req.Parameter = proto.String("paths=source_relative")
	request, err = proto.Marshal(req)
	return request, name, err
}

// withOptions adds the files that the option needs.
func withOptions(files []*descriptorpb.FileDescriptorProto) []*descriptorpb.FileDescriptorProto {
	there := make(map[string]bool)
	for _, file := range files {
		there[file.GetName()] = true
	}
	var first []*descriptorpb.FileDescriptorProto
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if there[file.Path()] {
			return
		}
		there[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i))
		}
		first = append(first, protodesc.ToFileDescriptorProto(file))
	}
	add(discoveryv1.File_etcd_discovery_v1_options_proto)
	return sortedFiles(append(first, files...))
}

// sortedFiles has each file come after what it imports.
func sortedFiles(files []*descriptorpb.FileDescriptorProto) []*descriptorpb.FileDescriptorProto {
	byName := make(map[string]*descriptorpb.FileDescriptorProto, len(files))
	for _, file := range files {
		byName[file.GetName()] = file
	}
	sorted := make([]*descriptorpb.FileDescriptorProto, 0, len(files))
	var add func(name string)
	add = func(name string) {
		file := byName[name]
		if file == nil {
			return
		}
		delete(byName, name)
		for _, dependency := range file.Dependency {
			add(dependency)
		}
		sorted = append(sorted, file)
	}
	for _, file := range files {
		add(file.GetName())
	}
	return sorted
}

func readCorpus(path string) (*pluginpb.CodeGeneratorRequest, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(raw, []byte{0x1f, 0x8b}) {
		unzipped, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		if raw, err = io.ReadAll(unzipped); err != nil {
			return nil, err
		}
	}
	req := &pluginpb.CodeGeneratorRequest{}
	return req, proto.Unmarshal(raw, req)
}

// inventedCorpus has 600 files of three services with seven methods each, in sixty packages, and
// fields enough for the descriptors to weigh something.
func inventedCorpus() *pluginpb.CodeGeneratorRequest {
	req := &pluginpb.CodeGeneratorRequest{}
	for f := range 600 {
		pkg := fmt.Sprintf("acme.area%d.v1", f/10)
		file := &descriptorpb.FileDescriptorProto{
			Name:    proto.String(fmt.Sprintf("acme/area%d/v1/file%d.proto", f/10, f)),
			Package: proto.String(pkg),
			Syntax:  proto.String("proto3"),
			Options: &descriptorpb.FileOptions{GoPackage: proto.String(fmt.Sprintf("example.com/acme/area%d/v1;areav1", f/10))},
		}
		for s := range 3 {
			service := &descriptorpb.ServiceDescriptorProto{Name: proto.String(fmt.Sprintf("File%dService%d", f, s))}
			for m := range 7 {
				name := fmt.Sprintf("File%dCall%dx%d", f, s, m)
				file.MessageType = append(file.MessageType, inventedMessage(name+"Request"), inventedMessage(name+"Response"))
				service.Method = append(service.Method, &descriptorpb.MethodDescriptorProto{
					Name:       proto.String(fmt.Sprintf("Call%d", m)),
					InputType:  proto.String("." + pkg + "." + name + "Request"),
					OutputType: proto.String("." + pkg + "." + name + "Response"),
				})
			}
			file.Service = append(file.Service, service)
		}
		req.ProtoFile = append(req.ProtoFile, file)
		req.FileToGenerate = append(req.FileToGenerate, file.GetName())
	}
	return req
}

func inventedMessage(name string) *descriptorpb.DescriptorProto {
	m := &descriptorpb.DescriptorProto{Name: proto.String(name)}
	for i := range 8 {
		m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{
			Name:     proto.String(fmt.Sprintf("field_%d", i)),
			JsonName: proto.String(fmt.Sprintf("field%d", i)),
			Number:   proto.Int32(int32(i + 1)),
			Type:     descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
			Label:    descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		})
	}
	return m
}
