package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkout is the path to this module.
const checkout = "../.."

func TestInit(t *testing.T) {
	source, err := filepath.Abs(checkout)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if err := os.Mkdir(".git", 0o750); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		code   int
		stderr string
	}{
		{0, ""},
		{1, `init: the directory has ".gitignore" and `}, // what the first has made
	} {
		var stdout, stderr bytes.Buffer
		if code := run([]string{"init", "-replace=" + source, "example.com/hello"}, os.Stdin, &stdout, &stderr); code != step.code {
			t.Errorf("exit code %d; want %d", code, step.code)
		}
		wantText(t, "stderr", stderr.String(), step.stderr)
	}
	for file, want := range map[string]string{
		"go.mod":         "module example.com/hello\n",
		"tools/go.mod":   "module example.com/hello/tools\n",
		"server/main.go": `"example.com/hello/gen/greeter/v1"`,
		"third_party/etcd/etcd/discovery/v1/options.proto": "package etcd.discovery.v1;",
		"proto/greeter/v1/greeter.proto":                   `"example.com/hello/gen/greeter/v1;greeterv1"`,
	} {
		content, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(content), want) {
			t.Errorf("%s lacks %q (%v)", file, want, err)
		}
	}
}

// TestInitInAWorkspace checks that init says how to generate code where the go command would use a go.work.
func TestInitInAWorkspace(t *testing.T) {
	source, err := filepath.Abs(checkout)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, gowork, want string }{
		{"found above", "", "go.work\n"},
		{"named", "/else/where.work", "\n/else/where.work\n"},
		{"turned off", "off", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "go.work"), []byte("go 1.26.0\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(dir, "hello"), 0o750); err != nil {
				t.Fatal(err)
			}
			t.Chdir(filepath.Join(dir, "hello"))
			t.Setenv("GOWORK", tt.gowork)
			var stdout, stderr bytes.Buffer
			if code := run([]string{"init", "-replace", source, "example.com/hello"}, os.Stdin, &stdout, &stderr); code != 0 {
				t.Fatalf("exit code %d: %s", code, &stderr)
			}
			_, said, _ := strings.Cut(stdout.String(), "GOWORK=off")
			wantText(t, "what it says of the workspace", said, tt.want)
		})
	}
}

// TestInitRefuses checks that init writes nothing when it fails.
func TestInitRefuses(t *testing.T) {
	source, err := filepath.Abs(checkout)
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "go.mod"), []byte("module example.com/other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		args   []string
		file   string // that is there already
		stderr string
	}{
		{"a development build", []string{"example.com/hello"}, "", "this is a development build"},
		{"a replacement that is not there", []string{"-replace", "nowhere", "example.com/hello"}, "", "-replace nowhere: want a checkout of"},
		{"another module as replacement", []string{"-replace", other, "example.com/hello"}, "", "go.mod is of another module"},
		{"no host", []string{"-replace", source, "hello"}, "", `"hello" is not a host name: it has no dot`},
		{"a text", []string{"-replace", source, "example.com/a b"}, "", `"a b" has a character other than`},
		{"a hidden file", []string{"-replace", source, "example.com/hello"}, ".env", `the directory has ".env"`},
		{"a module", []string{"-replace", source, "example.com/hello"}, "go.mod", `the directory has "go.mod"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			if tt.file != "" {
				if err := os.WriteFile(tt.file, []byte("mine"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var stdout, stderr bytes.Buffer
			if code := run(append([]string{"init"}, tt.args...), os.Stdin, &stdout, &stderr); code != 1 {
				t.Errorf("exit code %d; want 1", code)
			}
			wantText(t, "stdout", stdout.String(), "")
			wantText(t, "stderr", stderr.String(), tt.stderr)
			entries, err := os.ReadDir(".")
			if err != nil || len(entries) > 1 || len(entries) == 1 && entries[0].Name() != tt.file {
				t.Errorf("there are %v, %v", entries, err)
			}
		})
	}
}
