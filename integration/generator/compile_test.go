package generator

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/bufbuild/protocompile/experimental/fdp"
	"github.com/bufbuild/protocompile/experimental/incremental"
	"github.com/bufbuild/protocompile/experimental/incremental/queries"
	"github.com/bufbuild/protocompile/experimental/ir"
	"github.com/bufbuild/protocompile/experimental/report"
	"github.com/bufbuild/protocompile/experimental/source"
	protobuf "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/proto"
)

// Where things are, seen from this directory.
const (
	protoDir = "../../proto"
	dataDir  = "../../testdata"
)

// optionsProto is the file that users import.
const optionsProto = "etcd/discovery/v1/options.proto"

// sources are proto files by the path they are imported by.
type sources map[string]string

// readSources adds the proto files in dir, imported as prefix/NAME.
func (s sources) readDir(t *testing.T, dir, prefix string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.proto"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s[prefix+"/"+filepath.Base(path)] = string(text)
	}
}

// paths returns the paths of all files, in order.
func (s sources) paths() []string {
	paths := make([]string, 0, len(s))
	for path := range s {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

// opener serves the files, those of testdata, the options and protobuf's own.
func (s sources) opener() source.Opener {
	all := source.NewMap(nil)
	for path, text := range s {
		all.Add(path, text)
	}
	return &source.Openers{all, &source.FS{FS: os.DirFS(dataDir)}, &source.FS{FS: proto.Files}, source.WKTs()}
}

// positions is how much a compiler says about where options are.
type positions int

const (
	everyField positions = iota // as buf does: also the fields inside { }
	statements                  // as protoc does
	none
)

// compile returns the request that a build tool would send a plugin to generate
// for the files, every one if none is named. Nothing in it says which compiler
// it comes from.
func (s sources) compile(t *testing.T, where positions, parameter string, generate ...string) *pluginpb.CodeGeneratorRequest {
	t.Helper()
	if len(generate) == 0 {
		generate = s.paths()
	}
	var options fdp.Options
	options.Apply(fdp.IncludeSourceCodeInfo(where != none), fdp.GenerateExtraOptionLocations(where == everyField))
	results, diagnostics, err := incremental.Run(t.Context(), incremental.New(), queries.FDS{
		Opener:    s.opener(),
		Session:   new(ir.Session),
		Workspace: source.NewWorkspace(generate...),
		Options:   options,
	})
	if err != nil {
		t.Fatal(err)
	}
	failIfWrong(t, diagnostics)
	return overWire(t, &pluginpb.CodeGeneratorRequest{
		FileToGenerate: generate,
		Parameter:      &parameter,
		ProtoFile:      results[0].Value.GetFile(),
	})
}

func failIfWrong(t *testing.T, diagnostics *report.Report) {
	t.Helper()
	for _, diagnostic := range diagnostics.Diagnostics {
		if diagnostic.Level() <= report.Error {
			t.Errorf("%s: %s", diagnostic.File(), diagnostic.Message())
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// overWire returns the request as a plugin sees it that links no options.
func overWire(t *testing.T, request *pluginpb.CodeGeneratorRequest) *pluginpb.CodeGeneratorRequest {
	t.Helper()
	wire, err := protobuf.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	seen := new(pluginpb.CodeGeneratorRequest)
	if err := (protobuf.UnmarshalOptions{Resolver: new(protoregistry.Types)}).Unmarshal(wire, seen); err != nil {
		t.Fatal(err)
	}
	return seen
}
