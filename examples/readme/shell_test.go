package readme

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// runScript runs a bash script in an empty directory, with Go's module proxy at proxyURL, and
// returns what it prints.
func runScript(t *testing.T, script, proxyURL string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Dir = t.TempDir()
	cmd.Env = append(readersEnv(), "GOPROXY="+proxyURL, "GONOSUMDB="+owner+"/*", "TMPDIR="+t.TempDir())
	// What the script leaves in the background goes with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second

	start := time.Now()
	output, err := cmd.CombinedOutput()
	t.Logf("in %.0f s:\n%s", time.Since(start).Seconds(), output)
	if killed := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); killed != nil && !errors.Is(killed, syscall.ESRCH) {
		t.Errorf("end what the script started: %v", killed)
	}
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// readersEnv is this process's environment without what the go command has set for the test.
func readersEnv() (env []string) {
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		switch name {
		case "GOFLAGS", "GOWORK", "GOPROXY", "GONOSUMDB", "GOPRIVATE", "GONOPROXY", "GOBIN":
		default:
			env = append(env, variable)
		}
	}
	return env
}

// requireFree skips the test where something listens on addr already.
func requireFree(t *testing.T, addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("%s must be free: %v", addr, err)
	}
	listener.Close()
}
