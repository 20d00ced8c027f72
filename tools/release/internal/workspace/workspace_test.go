package workspace

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
)

const (
	sums = modules.Root + " v0.1.0 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" +
		modules.Root + " v0.1.0/go.mod h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
	head = "module example.com/program\n\ngo 1.24\n"
	need = "\nrequire " + modules.Root + " v0.1.0\n"
)

// write writes a program that imports the root module, which is beside it, and returns the program's directory.
func write(t *testing.T, gomod, gosum string) string {
	t.Helper()
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOFLAGS", "")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"root/go.mod": "module " + modules.Root + "\n\ngo 1.24\n", "root/root.go": "package root\n",
		"program/main.go": "package main\n\nimport _ \"" + modules.Root + "\"\n\nfunc main() {}\n",
		"program/go.mod":  gomod, "program/go.sum": gosum,
		"program/go.work": "go 1.24\n\nuse .\n\nreplace " + modules.Root + " => ../root\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "program")
}

// TestTidy checks that a module is tidied by its go.work, and keeps the sums of what is replaced there.
func TestTidy(t *testing.T) {
	tests := []struct{ name, gomod, gosum, wantMod, wantSum string }{
		{"tidy", head + need, sums, head + need, sums},
		{"never released", head + "\nrequire " + modules.Root + " v0.0.0\n", "", head + "\nrequire " + modules.Root + " v0.0.0\n", ""},
		{"a sum too many", head + need, "example.com/old v1.0.0 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" + sums, head + need, sums},
		{"indirect by mistake", head + "\nrequire " + modules.Root + " v0.1.0 // indirect\n", sums, head + need, sums},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := write(t, tt.gomod, tt.gosum)
			got, err := Tidy(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			if string(got["go.mod"]) != tt.wantMod || string(got["go.sum"]) != tt.wantSum {
				t.Errorf("go.mod is\n%s\nand go.sum\n%s", got["go.mod"], got["go.sum"])
			}
			if now, err := os.ReadFile(filepath.Join(dir, "go.mod")); err != nil || string(now) != tt.gomod {
				t.Errorf("go.mod was changed to\n%s (%v)", now, err)
			}
		})
	}
}

// TestEnv checks that a go.work above a module is not used.
func TestEnv(t *testing.T) {
	above := t.TempDir()
	own := filepath.Join(above, "own")
	for _, dir := range []string{above, own} {
		if err := errors.Join(os.MkdirAll(dir, 0o750), os.WriteFile(filepath.Join(dir, "go.work"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	none := filepath.Join(above, "none")
	for dir, want := range map[string]string{own: "GOWORK=" + filepath.Join(own, "go.work"), none: "GOWORK=off"} {
		if got, err := Env(dir); err != nil || !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, %v; want %q", dir, got, err, want)
		}
	}
}

// TestReplacementsStay checks that a replacement in go.mod itself is left there.
func TestReplacementsStay(t *testing.T) {
	gomod := head + "\nreplace " + modules.Root + " => ../root\n" + need
	dir := write(t, gomod, "")
	if err := os.Remove(filepath.Join(dir, "go.work")); err != nil {
		t.Fatal(err)
	}
	got, err := Tidy(t.Context(), dir)
	if err != nil || string(got["go.mod"]) != gomod {
		t.Errorf("go.mod is\n%s (%v)", got["go.mod"], err)
	}
}
