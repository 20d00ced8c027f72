package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/adopt"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/gen"
	optionsproto "github.com/etcdrpc/protoc-gen-go-etcd/proto"
)

// pasted is a proto file whose services have options that were pasted into it.
func pasted(options ...string) string {
	var text strings.Builder
	text.WriteString("syntax = \"proto3\";\npackage pasted;\nimport \"etcd/discovery/v1/options.proto\";\noption go_package = \"example.com/pasted\";\n")
	for i, option := range options {
		fmt.Fprintf(&text, "service S%d {\n  %s}\n", i, strings.ReplaceAll(option, "\n", "\n  "))
	}
	return text.String()
}

// generated compiles a proto file and has the plugin generate its code, or say what is wrong.
func generated(t *testing.T, text string) (code string, err error) {
	t.Helper()
	options, err := optionsproto.Files.ReadFile("etcd/discovery/v1/options.proto")
	if err != nil {
		t.Fatal(err)
	}
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"pasted.proto": text, "etcd/discovery/v1/options.proto": string(options)}),
	})}
	files, err := compiler.Compile(context.Background(), "pasted.proto")
	if err != nil {
		return "", err
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: []string{"pasted.proto"}, Parameter: proto.String("paths=source_relative"), ProtoFile: withImports(files[0])}
	raw, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	response, err := gen.Respond(raw)
	if err != nil {
		t.Fatal(err)
	}
	if response.Error != nil {
		return "", fmt.Errorf("%s", response.GetError())
	}
	return response.GetFile()[0].GetContent(), nil
}

// withImports returns a file with all that it imports, before what imports it.
func withImports(file protoreflect.FileDescriptor) (all []*descriptorpb.FileDescriptorProto) {
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
		all = append(all, protodesc.ToFileDescriptorProto(file))
	}
	add(file)
	return all
}

// checkPasted has the plugin generate code from a proto file with the option, and returns it.
func checkPasted(t *testing.T, option string) (code string) {
	t.Helper()
	code, err := generated(t, pasted(option))
	if err != nil {
		t.Errorf("the option cannot be pasted: %v\n%s", err, option)
	} else if key := fmt.Sprintf("%q", readOption(t, option).GetKey()); !strings.Contains(code, key) {
		t.Errorf("the key %s is not in the code generated from\n%s", key, option)
	}
	return code
}

// TestAdopt_WritesWhatWasThere has each layout's own writer write entries with all that it has room for: adopt names the layout
// and finds nothing that would be lost or change, and code is generated from what it prints, also from all in one proto.
func TestAdopt_WritesWhatWasThere(t *testing.T) {
	mapped := endpoint.MappedJSON(endpoint.JSONFields{Host: "host", Port: "port", Instance: "id", Version: "ver", Zone: "az", Weight: "w", Metadata: "meta", Name: "svc"})
	odd := endpoint.MappedJSON(endpoint.JSONFields{Addr: "addr\"\\\u2028ü\x00", Weight: "weight"})
	var options []string
	for n, layout := range append(endpoint.Layouts(), mapped, odd) {
		key := fmt.Sprintf("/service/default/default/user%d/latest", n)
		e := endpoint.Endpoint{Instance: "10.0.0.7:9000", Addr: "10.0.0.7:9000"}
		switch {
		case layout == odd: // under its address it would be taken for GoFrame's
			e.Instance, e.Weight = "one", 7
		case layout.Metadata():
			e.Version, e.Zone, e.Weight, e.Metadata = "v2", "eu-1a", 7, map[string]string{"team": "blue"}
		}
		value, err := layout.Encode(key, e)
		if err != nil {
			t.Fatal(err)
		}
		v, err := adopt.Read(key, []survey.Entry{{Key: layout.Key(key, e, someLease), Value: value, Lease: someLease}}, asIs)
		if err != nil {
			t.Fatal(err)
		}
		p := v.Proposals[0]
		p.Findings = slices.DeleteFunc(p.Findings, func(f doctor.Finding) bool { // what is no change of an entry
			return f.Kind == doctor.KindOldReader || f.Kind == doctor.KindMicroName
		})
		if p.Read() != 1 || layout != odd && (p.Layout != layout || found(p) != "") {
			t.Errorf("%v: taken for %v, found\n%s", layout, p.Layout, found(p))
		}
		options = append(options, p.Option())
		code, name := checkPasted(t, p.Option()), strings.ReplaceAll(layout.String(), "_", "")
		if layout.JSON() && p.IsMapped() {
			name = "JSONLayout("
		}
		if layout != endpoint.EndpointJSON && !strings.Contains(strings.ToLower(code), "runtime."+strings.ToLower(name)) {
			t.Errorf("the code for %v does not name it:\n%s", layout, code)
		}
	}
	if _, err := generated(t, pasted(options...)); err != nil {
		t.Errorf("together they cannot be pasted: %v", err)
	}
}
