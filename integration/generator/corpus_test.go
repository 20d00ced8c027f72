package generator

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// TestCorpus generates a corpus of public proto files with the option on every service
// and an affinity on every method that can have one.
// CORPUS_DIR names a directory with gzipped CodeGeneratorRequests, *.req.gz. One whose
// name has "clash" in it has Go names that collide, and must be refused.
func TestCorpus(t *testing.T) {
	dir := os.Getenv("CORPUS_DIR")
	if dir == "" {
		t.Skip("CORPUS_DIR names no directory with *.req.gz")
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.req.gz"))
	if err != nil || len(paths) == 0 {
		t.Fatal("no *.req.gz in", dir, err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".req.gz")
		t.Run(name, func(t *testing.T) {
			request := readRequest(t, path)
			want := addOptions(request)
			request = overWire(t, request)
			if strings.Contains(name, "clash") {
				testRefused(t, request)
				return
			}
			testCorpus(t, request, want)
		})
	}
}

func testRefused(t *testing.T, request *pluginpb.CodeGeneratorRequest) {
	response := generate(t, request)
	if response.Error == nil || len(response.GetFile()) > 0 {
		t.Errorf("wrote %d files; want an error and none", len(response.GetFile()))
	}
	t.Log(response.GetError())
}

// counts are how much there is in a request to generate for.
type counts struct{ services, affinities int }

// addOptions gives each service a key, and each method an affinity that can have one.
func addOptions(request *pluginpb.CodeGeneratorRequest) counts {
	var all counts
	messages := map[string]*descriptorpb.DescriptorProto{}
	for _, file := range request.GetProtoFile() {
		for _, message := range file.GetMessageType() {
			messages["."+file.GetPackage()+"."+message.GetName()] = message
		}
	}
	for _, file := range request.GetProtoFile() {
		for _, service := range file.GetService() {
			all.services++
			if service.Options == nil {
				service.Options = new(descriptorpb.ServiceOptions)
			}
			key := "/services/" + file.GetPackage() + "." + service.GetName()
			proto.SetExtension(service.Options, discoveryv1.E_Service, &discoveryv1.ServiceOptions{Key: key})
			for _, method := range service.GetMethod() {
				field := affinityField(messages[method.GetInputType()])
				if field == "" || method.GetClientStreaming() {
					continue
				}
				all.affinities++
				if method.Options == nil {
					method.Options = new(descriptorpb.MethodOptions)
				}
				proto.SetExtension(method.Options, discoveryv1.E_Method, &discoveryv1.MethodOptions{Affinity: field})
			}
		}
	}
	return all
}

// affinityField returns the name of a field that an affinity may lead to, "" for none.
func affinityField(message *descriptorpb.DescriptorProto) string {
	for _, field := range message.GetField() {
		switch {
		case field.GetLabel() == descriptorpb.FieldDescriptorProto_LABEL_REPEATED:
		case slices.Contains([]descriptorpb.FieldDescriptorProto_Type{
			descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, descriptorpb.FieldDescriptorProto_TYPE_GROUP,
			descriptorpb.FieldDescriptorProto_TYPE_FLOAT, descriptorpb.FieldDescriptorProto_TYPE_DOUBLE,
		}, field.GetType()):
		default:
			return field.GetName()
		}
	}
	return ""
}

func testCorpus(t *testing.T, request *pluginpb.CodeGeneratorRequest, want counts) {
	start := time.Now()
	files := generated(t, request)
	took := time.Since(start)
	var got counts
	for _, content := range files {
		got.services += strings.Count(content, "_EtcdServiceDesc = ")
		got.affinities += strings.Count(content, "runtime.WithAffinity(ctx, ")
	}
	if got != want {
		t.Errorf("code for %+v; want %+v", got, want)
	}
	if !cmp.Equal(files, generated(t, request)) {
		t.Error("two runs differ")
	}
	t.Logf("%+v in %d files, generated in %v", got, len(files), took)
}

func readRequest(t *testing.T, path string) *pluginpb.CodeGeneratorRequest {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	wire, err := io.ReadAll(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	request := new(pluginpb.CodeGeneratorRequest)
	if err := proto.Unmarshal(wire, request); err != nil {
		t.Fatal(err)
	}
	return request
}
