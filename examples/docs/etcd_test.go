//go:build unix

package docs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestJSON writes the service configs and the entries of the pages to etcd and
// reads the entries with a client.
func TestJSON(t *testing.T) {
	etcd := etcdtest.Start(t)
	registry := runtime.NewRegistry(etcd.Client(t))
	t.Cleanup(func() { registry.Close(context.Background()) })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()

	for _, b := range all(t, "json") {
		if err := registry.SetServiceConfig(ctx, "docs/page", b.text); err != nil {
			t.Errorf("%s:%d: %v", b.page, b.line, err)
		}
	}

	for _, b := range all(t, "json endpoint") {
		if _, err := etcd.Admin().Put(ctx, "docs/entry/instance", b.text); err != nil {
			t.Fatal(err)
		}

		for set, err := range registry.Watch(ctx, "docs/entry") {
			if err != nil || len(set) != 1 || set[0].Addr == "" {
				t.Errorf(
					"%s:%d: a client reads the entry as %+v, %v; want an endpoint with an address",
					b.page, b.line, set, err)
			}

			break
		}
	}
}

// refused matches a command that must fail. The test replaces "!", because bash
// continues if such a command succeeds.
var refused = regexp.MustCompile(`(?m)^! (.+)$`)

// TestCommands runs the commands of each page, in their order, with bash and on
// an etcd for that page.
func TestCommands(t *testing.T) {
	bin := t.TempDir()
	build := exec.CommandContext(
		t.Context(), "go", "build", "-o", bin, "go.etcd.io/etcd/etcdctl/v3")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build etcdctl: %v\n%s", err, output)
	}

	scripts := make(map[string]string) // by page
	for _, b := range all(t, "sh") {
		scripts[b.page] += refused.ReplaceAllString(b.text,
			"if $1; then echo 'it was not refused' >&2; exit 1; fi")
	}

	for page, script := range scripts {
		t.Run(page, func(t *testing.T) {
			etcd := etcdtest.Start(t)
			cmd := exec.CommandContext(t.Context(), "bash", "-c", "set -euxo pipefail\n"+script)
			cmd.Dir = t.TempDir()
			cmd.Env = append(os.Environ(),
				"PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"),
				"ETCDCTL_ENDPOINTS="+strings.Join(etcd.Endpoints(), ","),
				"ETCDCTL_DIAL_TIMEOUT=1m",
				"ETCDCTL_COMMAND_TIMEOUT=1m")

			// The background processes of the script end with it.
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
			cmd.WaitDelay = 5 * time.Second

			if output, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("the commands of the page failed: %v\n%s", err, output)
			}
		})
	}
}
