//go:build unix

package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// examples is where the commands of the pages are run.
const examples = ".."

// TestCommands runs the commands of each page, in their order, by bash and with an etcdctl that talks
// to an etcd of the page's own.
func TestCommands(t *testing.T) {
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "go.etcd.io/etcd/etcdctl/v3")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build etcdctl: %v\n%s", err, output)
	}
	for _, p := range pages(t) {
		script := ""
		for _, b := range p.blocks(t) {
			if b.language == "sh" && b.kind != "setup" {
				script += b.text
			}
		}
		if script == "" {
			continue
		}
		t.Run(p.name, func(t *testing.T) { run(t, bin, script) })
	}
}

// refused is a command that must fail. By itself, bash goes on when it does not.
var refused = regexp.MustCompile(`(?m)^! (.+)$`)

// example is a command that runs an example, which the examples' own test does.
var example = regexp.MustCompile(`(?m)^go run \. (\w+)$`)

func run(t *testing.T, bin, script string) {
	t.Helper()
	script = example.ReplaceAllString(script, "test -f $1/$1.go")
	script = refused.ReplaceAllString(script, "if $1; then echo 'it was not refused' >&2; exit 1; fi")
	etcd := etcdtest.Start(t)
	cmd := exec.CommandContext(t.Context(), "bash", "-c", "set -euxo pipefail\n"+script)
	cmd.Dir = examples
	cmd.Env = append(os.Environ(), "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"),
		"ETCDCTL_ENDPOINTS="+strings.Join(etcd.Endpoints(), ","), "ETCDCTL_DIAL_TIMEOUT=1m", "ETCDCTL_COMMAND_TIMEOUT=1m")
	// What the script leaves in the background goes with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	output, err := cmd.CombinedOutput()
	t.Logf("%s", output)
	if err != nil {
		t.Error(fmt.Errorf("the commands: %w", err))
	}
}
