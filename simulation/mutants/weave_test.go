package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

// doors holds mutants of the program in testdata, with the output of the
// program under each.
var doors = []struct{ edits, want string }{
	{"in door.push\nnever if locked", "open again again 7 8"},
	{"in door.push\nalways if n", "shut shut shut 7 5"},
	{"in door.push\nnot term locked", "open shut shut 7 6"},
	{"in door.push\ndrop term stuck n", "shut open again 7 7"},
	{"in door.push\ndrop term stuck", "shut shut shut 7 5"},
	{"in door.push\ndrop set append", "shut shut open 7 5"},
	{"in door.push\nnever case 1", "shut shut open 7 6"},
	{"in door.push\ndrop default\nalways case", "shut shut again 7 6"},
	{"in door.push\nchange return \"open\"\nto   $ + \"ed\"", "shut shut opened 7 6"},
	{"in door.push\nchange call append\nto   append($, who)", "shut shut again 7 7"},
	{"in add\nzero for numbers", "shut shut open 0 0"},
	{"in add\nzero return sum", "shut shut open 0 0"},
	{"in main\ndrop arg 5", "shut shut open 7 1"},
	{"in main\nchange field log\nto   []string{\"x\"}", "shut shut again 7 7"},
	{"in door.push\nnever if locked\nin add\nzero return sum", "open again again 0 0"},
}

// misfitting holds edits that do not fit, with a part of the expected error.
var misfitting = []struct{ edits, want string }{
	{"in door.pull\ndrop default", "0 functions door.pull"},
	{"in door.push\ndrop call nothing", `0 places "call nothing"`},
	{"in door.push\nnever return", `3 places "return"`},
	{"in door.push\ndrop if locked", "not possible"},
	{"in door.push\nchange if locked\nto locked {", "expected"},
	{"in door.push\nchange if locked\nto unknown", "does not compile: "},
	{"in door.push\nnever if locked\nnever term locked", "overlap"},
}

func TestWeave(t *testing.T) {
	root := t.TempDir()
	must.Succeed(t, os.CopyFS(root, os.DirFS("testdata")))
	must.Succeed(t, os.WriteFile(filepath.Join(root, "go.mod"),
		[]byte("module example.com/door\n\ngo 1.26\n"), 0o644))

	var all []*mutant
	for _, edits := range append(doors, misfitting...) {
		m, err := read("room", "dir .\n== "+strings.NewReplacer(" ", "_", "\n", "_").Replace(
			edits.edits)+" [D1]\nout x\n"+edits.edits)
		must.Succeed(t, err)
		all = append(all, m...)
	}

	overlay, err := weave(t.Context(), root, t.TempDir(), all)
	must.Succeed(t, err)
	binary := filepath.Join(t.TempDir(), "door")
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay="+overlay, "-o", binary, ".")
	build.Dir = root

	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}

	prints := func(id string) string {
		run := exec.CommandContext(t.Context(), binary)
		run.Env = []string{inForce + "=" + id}
		out, err := run.CombinedOutput()
		must.Succeed(t, err)

		return strings.TrimSpace(string(out))
	}
	if got, want := prints(""), "shut shut open 7 6"; got != want {
		t.Errorf("output without a mutant: %s, want %s", got, want)
	}

	for i, tt := range doors {
		if all[i].err != nil {
			t.Errorf("edits %q: %v, want them to fit", tt.edits, all[i].err)
		} else if got := prints(all[i].id); got != tt.want {
			t.Errorf("output with the edits %q: %s, want %s", tt.edits, got, tt.want)
		}
	}

	for i, tt := range misfitting {
		err := all[len(doors)+i].err
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("edits %q: %v, want an error with %s", tt.edits, err, tt.want)
		}
	}
}
