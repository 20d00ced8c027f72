package generator

import (
	"go/format"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig/grpccheck"
)

// dataPackage is the import path of testdata.
const dataPackage = "github.com/etcdrpc/protoc-gen-go-etcd/testdata"

// parameters are those of the cases that have their own. The others are generated
// with paths=source_relative.
var parameters = map[string]string{
	"module":  "module=" + dataPackage,
	"mapping": "paths=source_relative,Mmapping/greeter.proto=" + dataPackage + "/mapping",

	"packagesuffix": "paths=source_relative" + ownPackage,
}

// ownPackage is the parameter that has code written to a package of its own. The other plugins do not know it.
const ownPackage = ",package_suffix=etcd"

// grpcPlugin is that of gRPC to use for a case.
func grpcPlugin(name string) string {
	if name == "oldgrpc" {
		return "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.3.0" // the oldest that is to work
	}
	return "protoc-gen-go-grpc"
}

// TestGolden generates each folder of testdata and compares with what is committed
// there.
func TestGolden(t *testing.T) {
	for _, name := range cases(t) {
		t.Run(name, func(t *testing.T) { testGolden(t, name) })
	}
}

// cases are the folders of testdata but for that of the errors.
func cases(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() && entry.Name() != "errors" {
			names = append(names, entry.Name())
		}
	}
	return names
}

func testGolden(t *testing.T, name string) {
	files := sources{}
	files.readDir(t, filepath.Join(dataDir, name), name)
	parameter, ok := parameters[name]
	if !ok {
		parameter = "paths=source_relative"
	}
	request := files.compile(t, everyField, parameter)
	got := generated(t, request)

	if diff := cmp.Diff(got, generated(t, request)); diff != "" {
		t.Errorf("two runs differ (-first +second):\n%s", diff)
	}
	if diff := cmp.Diff(got, generated(t, files.compile(t, none, parameter))); diff != "" {
		t.Errorf("comments and positions make a difference (-with +without):\n%s", diff)
	}
	for path, content := range got {
		if formatted, err := format.Source([]byte(content)); err != nil {
			t.Errorf("%s: %v", path, err)
		} else if diff := cmp.Diff(content, string(formatted)); diff != "" {
			t.Errorf("%s is not formatted (-got +gofmt):\n%s", path, diff)
		}
	}
	if *update {
		clean(t, name)
		writeFiles(t, dataDir, got)
		parameter = strings.TrimSuffix(parameter, ownPackage)
		request.Parameter = &parameter
		writeFiles(t, dataDir, runTool(t, "protoc-gen-go", request))
		writeFiles(t, dataDir, runTool(t, grpcPlugin(name), request))
	}
	if diff := cmp.Diff(committed(t, name), got); diff != "" {
		t.Errorf("not what is committed; look, and run `go test . -update` if it is right (-committed +got):\n%s", diff)
	}
}

// serviceConfig finds the configs in generated code.
var serviceConfig = regexp.MustCompile("(?m)^\tServiceConfig: (.*),$")

// TestServiceConfigs says that gRPC takes all that is generated, which may also stand in etcd: one description serves
// the generator, the clients and the operators.
func TestServiceConfigs(t *testing.T) {
	n := 0
	for _, name := range cases(t) {
		for path, content := range committed(t, name) {
			for _, match := range serviceConfig.FindAllStringSubmatch(content, -1) {
				n++
				text, err := strconv.Unquote(match[1])
				if err != nil {
					t.Fatalf("%s: %s: %v", path, match[1], err)
				}
				config, err := grpccheck.Live(text)
				if err != nil {
					t.Errorf("%s: %s: %v", path, text, err)
				} else if again := config.JSON(); again != text {
					t.Errorf("%s: %s is written %s", path, text, again)
				}
			}
		}
	}
	if n < 30 {
		t.Errorf("found %d configs", n)
	}
}

// committed returns what of our output is in the folder of a case.
func committed(t *testing.T, name string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, path := range slices.Concat(glob(t, name, "*_etcd.pb.go"), glob(t, name, "*/*_etcd.pb.go")) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		inData, err := filepath.Rel(dataDir, path)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.ToSlash(inData)] = string(content)
	}
	return files
}

// clean removes all output from the folder of a case.
func clean(t *testing.T, name string) {
	t.Helper()
	for _, path := range slices.Concat(glob(t, name, "*.pb.go"), glob(t, name, "*/*.pb.go")) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func glob(t *testing.T, name, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dataDir, name, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// TestOneRequest generates the cases all at once: what is made of one has nothing to
// do with the others beside it.
func TestOneRequest(t *testing.T) {
	files, alone := sources{}, map[string]string{}
	for _, name := range cases(t) {
		if _, ok := parameters[name]; !ok {
			files.readDir(t, filepath.Join(dataDir, name), name)
			maps.Copy(alone, committed(t, name))
		}
	}
	together := generated(t, files.compile(t, everyField, "paths=source_relative"))
	if diff := cmp.Diff(alone, together); diff != "" {
		t.Errorf("(-alone +together):\n%s", diff)
	}
}

// TestAnnotations says that the names in generated code can be followed to the proto file.
func TestAnnotations(t *testing.T) {
	files := sources{}
	files.readDir(t, filepath.Join(dataDir, "basic"), "basic")
	meta := generated(t, files.compile(t, everyField, "paths=source_relative,annotate_code=true"))["basic/greeter_etcd.pb.go.meta"]
	if n := strings.Count(meta, `source_file:"basic/greeter.proto"`); n != 3 {
		t.Errorf("%d annotations; want one for each of the three names:\n%s", n, meta)
	}
}

// TestNothingToDo says that no file is written where no service has the option.
func TestNothingToDo(t *testing.T) {
	for path := range committed(t, "noservice") {
		if strings.HasPrefix(path, "noservice/") {
			t.Errorf("%s: want no file", path)
		}
	}
}
