//go:build unix

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/creack/pty"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// startEdit starts policy edit as a process on a terminal, with an editor.
func startEdit(t *testing.T, etcd *etcdtest.Cluster, editor string) (terminal *os.File, said *written, ended chan error) {
	t.Helper()
	path, err := exec.LookPath("etcdrpc") // of testscript
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(path, at(etcd, "policy", "edit", "acme/user")...)
	cmd.Env = append(os.Environ(), "VISUAL=", "EDITOR="+tempFile(t, "editor", []byte("#!/bin/sh\n"+editor)), "TMPDIR="+t.TempDir())
	if err := os.Chmod(strings.TrimPrefix(cmd.Env[len(cmd.Env)-2], "EDITOR="), 0o700); err != nil {
		t.Fatal(err)
	}
	terminal, err = pty.Start(cmd)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { terminal.Close() })
	said, ended = new(written), make(chan error, 1)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := terminal.Read(buf)
			_, _ = said.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	go func() { ended <- cmd.Wait() }()
	return terminal, said, ended
}

func TestPolicyEdit_OnATerminal(t *testing.T) {
	etcd := etcdtest.Start(t)
	_, said, ended := startEdit(t, etcd, `for f in 0 1 2; do [ -t $f ] && echo "descriptor $f is a terminal" >&2; done`)
	if err := <-ended; err != nil {
		t.Fatalf("edit ended with %v", err)
	}
	if err := said.wait("2 is a terminal"); err != nil || !strings.Contains(said.String(), "1 is a terminal") {
		t.Errorf("what the editor found: %s", said)
	}
}

// Ctrl-C is the editor's: vi leaves its insert mode by it.
func TestPolicyEdit_CtrlC(t *testing.T) {
	etcd := etcdtest.Start(t)
	putKey(t, etcd, "acme/user/a", "10.0.0.1:1")
	terminal, said, ended := startEdit(t, etcd, `trap 'left=1' INT
echo begun >&2
for i in $(seq 100); do [ -n "$left" ] && break; sleep 0.1; done
echo '{"loadBalancingConfig":[{"etcd_weighted":{}}]}' > "$1"
`)
	if err := said.wait("begun"); err != nil {
		t.Fatal(err)
	}
	if _, err := terminal.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("it ended: %v:\n%s", err, said)
	}
	if got := liveConfigAt(t, etcd, "acme/user"); !strings.Contains(got, "etcd_weighted") {
		t.Errorf("what was saved is not in force: %q", got)
	}
}
