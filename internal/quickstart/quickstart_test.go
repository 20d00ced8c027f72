package quickstart

import (
	"errors"
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "copy the files of the examples instead of comparing with them")

// source returns the directory of the example.
func (e example) source() string { return "../../" + strings.TrimPrefix(e.path, Self+"/") }

// files returns the files of the example by their embedded names.
func (e example) files(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(e.source(), func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(e.source(), file)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{"bin", "gen", "third_party"}, name) {
				return fs.SkipDir
			}
			return nil
		}
		content, err := os.ReadFile(file)
		if filepath.Base(name) == "go.mod" {
			name += hidden
		}
		all[filepath.ToSlash(name)] = string(content)
		return err
	})
	must(t, err)
	return all
}

// TestFilesAreTheExamples checks that a project with the example's module path has the example's files and the options' proto file.
func TestFilesAreTheExamples(t *testing.T) {
	for _, connect := range []bool{false, true} {
		p := Project{Replace: "../..", Connect: connect}
		e := p.example()
		p.Module = e.path
		embedded := e.files(t)
		if *update {
			must(t, errors.Join(os.RemoveAll(e.dir), Write(e.dir, embedded)))
			continue
		}
		got, err := p.Files()
		must(t, err)
		const options = "third_party/etcd/etcd/discovery/v1/options.proto"
		content, err := os.ReadFile(filepath.Join(e.source(), options))
		must(t, err)
		want := map[string]string{options: string(content)}
		for name, text := range embedded {
			want[strings.TrimSuffix(name, hidden)] = text
		}
		if got, want := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(got, want) {
			t.Fatalf("the files are %q, want %q; run: make generate", got, want)
		}
		for name, text := range want {
			if got[name] != text {
				t.Errorf("%s differs; run: make generate", name)
			}
		}
	}
}

func TestProject(t *testing.T) {
	tests := []struct {
		name    string
		project Project
		has     string // a part of go.mod
		lacks   string // what go.mod must not have
	}{
		{"release", Project{Module: "zoo.example/greeter", Version: "v1.2.3"}, "\t" + Self + " v1.2.3\n", "replace"},
		{"replaced", Project{Module: "zoo.example/greeter", Version: "v1.2.3", Replace: "/src/etcd"},
			"replace " + Self + " => /src/etcd\n", "v1.2.3"},
		{"release for Connect", Project{Module: "zoo.example/greeter", Version: "v1.2.3", Connect: true}, "\t" + Self + "/connectetcd v1.2.3\n", "replace"},
		{"replaced for Connect", Project{Module: "zoo.example/greeter", Replace: "/src/etcd", Connect: true},
			"replace " + Self + "/connectetcd => /src/etcd/connectetcd\n", "../.."},
		{"spaces", Project{Module: "zoo.example/greeter", Replace: "/my src/etcd"},
			"replace " + Self + " => \"/my src/etcd\"\n", "v1.2.3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files, err := tt.project.Files()
			must(t, err)
			gomod := files["go.mod"]
			if !strings.HasPrefix(gomod, "module zoo.example/greeter\n") || !strings.Contains(gomod, tt.has) || strings.Contains(gomod, tt.lacks) {
				t.Errorf("go.mod should have %q and not %q, and is\n%s", tt.has, tt.lacks, gomod)
			}
			for name, text := range files {
				if strings.Contains(text, "examples/quickstart") {
					t.Errorf("%s names the example", name)
				}
			}
			// The imports are in order again.
			server := files["server/main.go"]
			if strings.Index(server, `"zoo.example/greeter/gen/greeter/v1"`) < strings.Index(server, Self+"/runtime") {
				t.Errorf("server/main.go is not formatted:\n%s", server)
			}
		})
	}
}

func TestProject_RejectsBadModule(t *testing.T) {
	for _, path := range []string{"", "greeter", "Example.com/a", "example.com/a b", "example.com//a", "example.com/a/", "example.com/.a", "-a.com"} {
		if files, err := (Project{Module: path, Version: "v1.0.0"}).Files(); err == nil || len(files) > 0 {
			t.Errorf("Files of the module %q: %d files, %v, want an error alone", path, len(files), err)
		}
	}
}

func TestCheckEmpty(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, ".git"), 0o750))
	must(t, CheckEmpty(dir))
	for _, tt := range []struct{ name, want string }{
		{"b", `the directory has "b": it must be empty, except for .git`},
		{"a", `the directory has "a" and 1 more: it must be empty, except for .git`},
	} {
		must(t, os.WriteFile(filepath.Join(dir, tt.name), nil, 0o600))
		if err := CheckEmpty(dir); err == nil || err.Error() != tt.want {
			t.Errorf("CheckEmpty = %v, want %s", err, tt.want)
		}
	}
	if err := CheckEmpty(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
