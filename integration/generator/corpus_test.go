package generator

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// TestCorpus generates a corpus of public proto files with the option on every service.
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
			services := addOptions(request)
			request = overWire(t, request)
			if strings.Contains(name, "clash") {
				testRefused(t, request)
				return
			}
			testCorpus(t, request, services)
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

// addOptions gives each service a key, and returns how many there are.
func addOptions(request *pluginpb.CodeGeneratorRequest) int {
	services := 0
	for _, file := range request.GetProtoFile() {
		for _, service := range file.GetService() {
			services++
			if service.Options == nil {
				service.Options = new(descriptorpb.ServiceOptions)
			}
			key := "/services/" + file.GetPackage() + "." + service.GetName()
			proto.SetExtension(service.Options, discoveryv1.E_Service, &discoveryv1.ServiceOptions{Key: key})
		}
	}
	return services
}

func testCorpus(t *testing.T, request *pluginpb.CodeGeneratorRequest, services int) {
	files := generated(t, request)
	written := 0
	for _, content := range files {
		written += strings.Count(content, "_EtcdServiceDesc = ")
	}
	if written != services {
		t.Errorf("code for %d services; want %d", written, services)
	}
	if !cmp.Equal(files, generated(t, request)) {
		t.Error("two runs differ")
	}
	t.Logf("%d services in %d files", services, len(files))
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
