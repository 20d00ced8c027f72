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

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig/grpccheck"
	_ "github.com/etcdrpc/protoc-gen-go-etcd/testdata/outlier" // links the policies that its configs name
	_ "github.com/etcdrpc/protoc-gen-go-etcd/testdata/policies"
)

// dataPackage is the import path of testdata.
const dataPackage = "github.com/etcdrpc/protoc-gen-go-etcd/testdata"

// parameters holds the plugin parameters of some cases. Most cases, the folders
// of testdata, use paths=source_relative.
var parameters = map[string]string{
	"module":        "module=" + dataPackage,
	"mapping":       "paths=source_relative,Mmapping/greeter.proto=" + dataPackage + "/mapping",
	"packagesuffix": "paths=source_relative" + ownPackage,
}

// connectCases holds the cases for which protoc-gen-connect-go generates code,
// too.
var connectCases = map[string]connectCase{
	"connect":     {beside: true},
	"connectsame": {suffix: ",package_suffix=", simple: ",simple"},
	"connectsuffix": {
		suffix:  ",package_suffix=rpc",
		managed: ",Mconnectsuffix/opts.proto=" + dataPackage + "/connectsuffix;opts",
	},
}

// A connectCase describes how this plugin and protoc-gen-connect-go generate
// the code of a case.
type connectCase struct {
	beside  bool   // there is gRPC's code, too
	suffix  string // a parameter of both plugins
	simple  string // a parameter of protoc-gen-connect-go alone
	managed string // a parameter of all plugins, also protoc-gen-go
}

// parametersOf returns the parameters of the runs of this plugin for a case.
func parametersOf(name string) []string {
	const paths = "paths=source_relative"
	if c, ok := connectCases[name]; ok {
		connect := paths + c.managed + c.suffix + ",connect=true"
		if c.beside {
			return []string{paths, connect}
		}

		return []string{connect}
	}

	if parameter, ok := parameters[name]; ok {
		return []string{parameter}
	}

	return []string{paths}
}

// generatedCase generates the code of a case twice, for comparison.
func generatedCase(
	t *testing.T,
	name string,
	files sources,
	where positions,
) (first, second map[string]string) {
	t.Helper()

	first = map[string]string{}
	second = map[string]string{}
	for _, parameter := range parametersOf(name) {
		request := files.compile(t, where, parameter)
		maps.Copy(first, generated(t, request))
		maps.Copy(second, generated(t, request))
	}

	return first, second
}

// writeOthers writes the code that other projects' plugins generate for a case.
func writeOthers(t *testing.T, name string, files sources) {
	t.Helper()

	parameter := strings.TrimSuffix(parametersOf(name)[0], ownPackage)
	c, isConnect := connectCases[name]
	if isConnect {
		parameter = "paths=source_relative" + c.managed
	}

	request := files.compile(t, everyField, parameter)
	writeFiles(t, dataDir, runTool(t, "protoc-gen-go", request))

	if !isConnect || c.beside {
		plugin := "protoc-gen-go-grpc"
		if name == "oldgrpc" {
			// the oldest supported version
			plugin = "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.3.0"
		}

		writeFiles(t, dataDir, runTool(t, plugin, request))
	}

	if isConnect {
		parameter += c.suffix + c.simple
		request.Parameter = &parameter
		writeFiles(t, dataDir, runTool(t, "protoc-gen-connect-go", request))
	}
}

// ownPackage is a parameter for this plugin alone. It puts the plugin's code
// into a separate package.
const ownPackage = ",package_suffix=etcd"

// TestGolden generates the code of each case and compares it with the committed
// files.
func TestGolden(t *testing.T) {
	for _, name := range cases(t) {
		t.Run(name, func(t *testing.T) { testGolden(t, name) })
	}
}

// cases returns the names of the folders of testdata, except errors.
func cases(t *testing.T) []string {
	t.Helper()

	entries, err := os.ReadDir(dataDir)
	kit.Must(t, err)

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

	got, again := generatedCase(t, name, files, everyField)
	if diff := cmp.Diff(got, again); diff != "" {
		t.Errorf("two runs generate different code (-first +second):\n%s", diff)
	}

	if bare, _ := generatedCase(t, name, files, none); !maps.Equal(got, bare) {
		t.Errorf("requests with and without positions give different code (-with +without):\n%s",
			cmp.Diff(got, bare))
	}

	for path, content := range got {
		if formatted, err := format.Source([]byte(content)); err != nil {
			t.Errorf("format %s: %v", path, err)
		} else if diff := cmp.Diff(content, string(formatted)); diff != "" {
			t.Errorf("%s is not formatted (-got +gofmt):\n%s", path, diff)
		}
	}

	if *update {
		for _, path := range output(t, name, ".pb.go", ".connect.go") {
			kit.Must(t, os.Remove(path))
		}

		writeFiles(t, dataDir, got)
		writeOthers(t, name, files)
	}

	if diff := cmp.Diff(committed(t, name), got); diff != "" {
		t.Errorf("the code differs from the committed files; check it, then run `go test . -update` (-committed +got):\n%s", diff)
	}
}

// serviceConfig matches a service config in generated code.
var serviceConfig = regexp.MustCompile("(?m)^\tServiceConfig: (.*),$")

// TestServiceConfigs checks that every generated config is a valid live config,
// and has the form that clients pass to gRPC.
func TestServiceConfigs(t *testing.T) {
	n := 0
	for _, name := range cases(t) {
		for path, content := range committed(t, name) {
			for _, match := range serviceConfig.FindAllStringSubmatch(content, -1) {
				n++

				text, err := strconv.Unquote(match[1])
				if err != nil {
					t.Fatalf("%s: unquote %s: %v", path, match[1], err)
				}

				config, err := grpccheck.Live(text)
				if err != nil {
					t.Errorf("%s: config %s: %v, want a valid live config", path, text, err)
				} else if again := config.JSON(); again != text {
					t.Errorf("%s: config %s, want %s, as clients pass it to gRPC",
						path, text, again)
				}
			}
		}
	}

	if n < 30 {
		t.Errorf("generated code has %d configs, want at least 30", n)
	}
}

// committed returns the committed files of this plugin for a case, by path.
func committed(t *testing.T, name string) map[string]string {
	t.Helper()

	files := map[string]string{}
	for _, path := range output(t, name, "_etcd.pb.go", "_etcd.connect.go") {
		content, err := os.ReadFile(path)
		kit.Must(t, err)
		inData, err := filepath.Rel(dataDir, path)
		kit.Must(t, err)
		files[filepath.ToSlash(inData)] = string(content)
	}

	return files
}

// output returns the paths of files whose names end with a suffix, in the
// folder of a case and one level below.
func output(t *testing.T, name string, suffixes ...string) []string {
	t.Helper()

	var paths []string
	for _, suffix := range suffixes {
		for _, pattern := range []string{"*" + suffix, "*/*" + suffix} {
			found, err := filepath.Glob(filepath.Join(dataDir, name, pattern))
			kit.Must(t, err)
			paths = append(paths, found...)
		}
	}

	return paths
}

// TestOneRequest checks that a case gets the same code if one request has all
// cases.
func TestOneRequest(t *testing.T) {
	files := sources{}
	alone := map[string]string{}
	for _, name := range cases(t) {
		if slices.Equal(parametersOf(name), []string{"paths=source_relative"}) {
			files.readDir(t, filepath.Join(dataDir, name), name)
			maps.Copy(alone, committed(t, name))
		}
	}

	together := generated(t, files.compile(t, everyField, "paths=source_relative"))
	if diff := cmp.Diff(alone, together); diff != "" {
		t.Errorf("one request for all cases gives different code (-alone +together):\n%s", diff)
	}
}

// TestAnnotations checks that annotate_code maps the names in generated code to
// the proto file.
func TestAnnotations(t *testing.T) {
	files := sources{}
	files.readDir(t, filepath.Join(dataDir, "basic"), "basic")

	request := files.compile(t, everyField, "paths=source_relative,annotate_code=true")
	meta := generated(t, request)["basic/greeter_etcd.pb.go.meta"]
	if n := strings.Count(meta, `source_file:"basic/greeter.proto"`); n != 3 {
		t.Errorf("%d annotations, want 3, one for each generated name:\n%s", n, meta)
	}
}
