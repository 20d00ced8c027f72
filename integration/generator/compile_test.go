package generator

import (
	"iter"
	"maps"
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

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/proto"
)

// Paths from this directory.
const (
	protoDir = "../../proto"
	dataDir  = "../../testdata"
)

// optionsProto is the file that users import.
const optionsProto = "etcd/discovery/v1/options.proto"

// sources maps the paths by which proto files import each other to the text of
// the files.
type sources map[string]string

// readDir adds the proto files in dir. The import path of a file is
// prefix/NAME.
func (s sources) readDir(t *testing.T, dir, prefix string) {
	t.Helper()

	paths, err := filepath.Glob(filepath.Join(dir, "*.proto"))
	kit.Must(t, err)

	for _, path := range paths {
		text, err := os.ReadFile(path)
		kit.Must(t, err)
		s[prefix+"/"+filepath.Base(path)] = string(text)
	}
}

// The tests share a compiler, which caches its results for each file until give
// replaces the file. The cache saves most time for the options and protobuf's
// own files.
var (
	compiler = incremental.New()
	session  = new(ir.Session)
	given    = source.NewMap(nil) // the current test's sources
	opener   = &source.Openers{
		given,
		&source.FS{FS: os.DirFS(dataDir)},
		&source.FS{FS: proto.Files},
		source.WKTs(),
	}
)

// give makes s the sources of the compiler.
func (s sources) give() {
	evict := func(paths iter.Seq[string]) {
		for path := range paths {
			compiler.Evict(
				queries.File{Opener: opener, Path: path},
				queries.File{Opener: opener, Path: path, ReportError: true})
		}
	}

	evict(maps.Keys(given.Get()))
	clear(given.Get())

	for path, text := range s {
		given.Add(path, text)
	}

	evict(maps.Keys(s))
}

// positions says for which options a compiler reports positions in the file.
type positions int

const (
	everyField positions = iota // each field inside { }, as buf does
	statements                  // each option statement, as protoc does
	none
)

// compile returns the request that a build tool would send a plugin, to
// generate code for the files named in generate or, if there are none, for all
// files.
func (s sources) compile(
	t *testing.T,
	where positions,
	parameter string,
	generate ...string,
) *pluginpb.CodeGeneratorRequest {
	t.Helper()

	if len(generate) == 0 {
		generate = slices.Sorted(maps.Keys(s))
	}

	var options fdp.Options
	options.Apply(
		fdp.IncludeSourceCodeInfo(where != none),
		fdp.GenerateExtraOptionLocations(where == everyField))

	s.give()

	results, diagnostics, err := incremental.Run(t.Context(), compiler, queries.FDS{
		Opener:    opener,
		Session:   session,
		Workspace: source.NewWorkspace(generate...),
		Options:   options,
	})
	kit.Must(t, err)

	for _, diagnostic := range diagnostics.Diagnostics {
		if diagnostic.Level() <= report.Error {
			t.Errorf("compile %s: %s", diagnostic.File(), diagnostic.Message())
		}
	}

	if t.Failed() {
		t.FailNow()
	}

	encode := protobuf.MarshalOptions{Deterministic: true}
	wire, err := encode.Marshal(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: generate,
		Parameter:      &parameter,
		ProtoFile:      results[0].Value.GetFile(),
	})
	kit.Must(t, err)

	// as a plugin without the Go code of the options decodes it
	decode := protobuf.UnmarshalOptions{Resolver: new(protoregistry.Types)}
	seen := new(pluginpb.CodeGeneratorRequest)
	kit.Must(t, decode.Unmarshal(wire, seen))

	return seen
}
