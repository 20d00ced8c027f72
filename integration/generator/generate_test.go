package generator

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/gen"
)

// generate answers a request as the command would.
func generate(t *testing.T, request *pluginpb.CodeGeneratorRequest) *pluginpb.CodeGeneratorResponse {
	t.Helper()
	raw, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	response, err := gen.Respond(raw)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// generated returns the files in the answer to a valid request.
func generated(t *testing.T, request *pluginpb.CodeGeneratorRequest) map[string]string {
	t.Helper()
	return contents(t, "protoc-gen-go-etcd", generate(t, request))
}

func contents(t *testing.T, plugin string, response *pluginpb.CodeGeneratorResponse) map[string]string {
	t.Helper()
	if response.Error != nil {
		t.Fatalf("%s: %s", plugin, response.GetError())
	}
	files := map[string]string{}
	for _, file := range response.GetFile() {
		files[file.GetName()] = file.GetContent()
	}
	return files
}
