package generator

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
)

// levelRequest is a proto file whose message has fields with defaults, and
// fields whose getters differ between API levels.
const levelRequest = `syntax = "proto2";
package levels;
option go_package = "example.com/replaced";
message Request {
  optional string x = 1 [default = "x"];
  optional int32 get_x = 2 [default = 2];
  optional bytes string = 3 [default = "s"];
  oneof who {
    string name = 4 [default = "nobody"];
    uint32 reset = 5;
  }
  optional Reverse reverse = 6;
  optional Kind kind = 7;
}
message Reverse {
  optional string get_x = 1 [default = "get"];
  optional string x = 2 [default = "x"];
}
enum Kind {
  KIND_ONE = 1;
  KIND_TWO = 2;
}
`

// levelService returns a proto file with a method for each field of
// [levelRequest]. The field is the method's affinity.
func levelService() string {
	var b strings.Builder
	b.WriteString(`syntax = "proto3";
package levels;
import "etcd/discovery/v1/options.proto";
import "google/protobuf/empty.proto";
import "n1/request.proto";
option go_package = "example.com/replaced";
service Levels {
  option (etcd.discovery.v1.service).key = "levels";
`)

	for i, path := range []string{
		"x", "get_x", "string", "name", "reset", "reverse.x", "reverse.get_x", "kind",
	} {
		fmt.Fprintf(&b,
			"  rpc M%d(Request) returns (google.protobuf.Empty) {\n    option (etcd.discovery.v1.method).affinity = %q;\n  }\n",
			i, path)
	}

	b.WriteString("}\n")

	return b.String()
}

// TestGeneratedCodeCompiles checks that generated code compiles for requests of
// every API level, and with every value of the parameter default_api_level. The
// code must also compile if packages have the names of identifiers in the code.
// It may be in the service's package or in a separate package.
func TestGeneratedCodeCompiles(t *testing.T) {
	o := overlay{}
	files := sources{"n1/request.proto": levelRequest, "n1/levels.proto": levelService()}
	plugin := func(name, proto, requests, service, more string) map[string]string {
		parameter := "module=" + dataPackage +
			",Mn1/levels.proto=" + dataPackage + "/" + service +
			",Mn1/request.proto=" + dataPackage + "/" + requests
		request := files.compile(t, none, parameter+more, proto)
		if name == "" {
			return generated(t, request)
		}

		return runTool(t, name, request)
	}

	beside := plugin("protoc-gen-go-grpc", "n1/levels.proto", "n1/requests", "n1/service", "")

	const level = ",default_api_level="
	levels := []string{"API_OPEN", "API_HYBRID", "API_OPAQUE"}
	for _, made := range levels {
		requests := "n1/" + made
		o.add("",
			plugin("protoc-gen-go", "n1/request.proto", requests, "n1/service", level+made))

		for _, given := range levels {
			service := "n1/" + made + given
			o.add(service, plugin("", "n1/levels.proto", requests, "n1/service", level+given))
			o.add(service, withRequests(beside, requests, "replaced"))
			o.add(service+"/serviceetcd", plugin("", "n1/levels.proto", requests,
				service+";service", level+given+ownPackage))
		}
	}

	made := plugin("protoc-gen-go", "n1/request.proto", "n1/requests", "n1/service", "")
	for name, service := range map[string]string{
		"in":      "registry",
		"ok":      "server",
		"c":       "conn",
		"ctx":     "err",
		"opts":    "impl",
		"value":   "grpc",
		"message": "context",
		"runtime": "in",
	} {
		requests := "n1/" + name
		for _, content := range made {
			content = strings.Replace(content,
				"\npackage requests\n", "\npackage "+name+"\n", 1)
			o.add(requests, map[string]string{"request.pb.go": content})
		}

		at := requests + "/" + service
		o.add(at, withRequests(beside, requests, service))
		o.add(at, plugin("", "n1/levels.proto", requests, at+";"+service, ""))
		o.add(at+"/"+service+"etcd",
			plugin("", "n1/levels.proto", requests, at+";"+service, ownPackage))
	}

	o.build(t)
	maps.DeleteFunc(o, func(path, _ string) bool {
		return !strings.HasPrefix(path, "n1/API_HYBRID")
	})
	o.build(t, "-tags=protoopaque") // the tag changes only the hybrid API
}

// withRequests returns gRPC's code for a package of the given name, with the
// requests from the given folder. The code imports the requests under the name
// requests, since gRPC's code does not compile with every name of their
// package.
func withRequests(beside map[string]string, folder, name string) map[string]string {
	rename := strings.NewReplacer(
		`"`+dataPackage+`/n1/requests"`, `"`+dataPackage+"/"+folder+`"`,
		"\npackage replaced\n", "\npackage "+name+"\n")

	changed := map[string]string{}
	for path, content := range beside {
		changed[path] = rename.Replace(content)
	}

	return changed
}

// An overlay maps paths in testdata to the Go files that the build finds there.
type overlay map[string]string

// add puts files into a folder. If the folder is "", each file keeps its path.
func (o overlay) add(folder string, files map[string]string) {
	for path, content := range files {
		if folder != "" {
			path = folder + "/" + filepath.Base(path)
		}

		o[path] = content
	}
}

// build compiles the packages of all files in the overlay.
func (o overlay) build(t *testing.T, flags ...string) {
	t.Helper()

	root, err := filepath.Abs(dataDir)
	kit.Must(t, err)

	dir := t.TempDir()
	replace := map[string]string{}
	packages := map[string]bool{}
	for path, content := range o {
		file := filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		kit.Must(t, os.WriteFile(file, []byte(content), 0o600))
		replace[filepath.Join(root, path)] = file
		packages[dataPackage+"/"+filepath.ToSlash(filepath.Dir(path))] = true
	}

	list, err := json.Marshal(map[string]any{"Replace": replace})
	kit.Must(t, err)
	config := filepath.Join(dir, "overlay.json")
	kit.Must(t, os.WriteFile(config, list, 0o600))

	args := slices.Concat([]string{"build", "-overlay=" + config}, flags,
		slices.Collect(maps.Keys(packages)))
	if output, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Errorf("go build %v: %v, want success\n%s", flags, err, output)
	}
}
