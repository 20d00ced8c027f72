//go:build unix

package rehearsal

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/git"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/plan"
)

var (
	rehearse = flag.Bool("rehearse", false, "make the release, which takes minutes the first time")
	serve    = flag.Bool("serve", false, "serve the release to be tried, instead of running the commands")
)

// TestRehearsal releases a clone, and runs the documents' commands that fetch the release.
func TestRehearsal(t *testing.T) {
	if !*rehearse {
		t.Skip("takes minutes the first time: make rehearsal")
	}
	start := time.Now()
	clone := newClone(t)
	change(t, clone, "rehearsal", "")
	version := next(t, clone)
	timed(t, "make release", func() { t.Log(mustMake(t, clone, "release", "VERSION="+version)) })
	checkRelease(t, clone, version)
	timed(t, "make sbom", func() { t.Log(mustMake(t, clone, "sbom")) })

	r := &released{version: version}
	var err error
	if r.env, err = clone.Env(t.Context(), moduleCache(t)); err != nil {
		t.Fatal(err)
	}
	if *serve {
		r.serve(t)
		return
	}
	for _, c := range commands(t) {
		if k, ok := c.kind(); ok && k.check != "" {
			t.Run(c.page+" "+k.name, func(t *testing.T) { r.run(t, c, k) })
		}
	}
	t.Run("quickstart", r.runQuickstart)
	t.Run("development goes on", func(t *testing.T) { checkDevelopment(t, clone) })
	t.Run("next releases", func(t *testing.T) { checkNext(t, clone) })
	t.Logf("in all: %.0f s", time.Since(start).Seconds())
}

func timed(t *testing.T, what string, do func()) {
	t.Helper()
	start := time.Now()
	do()
	t.Logf("%s: %.0f s", what, time.Since(start).Seconds())
}

// runMake runs make in the clone.
func runMake(t *testing.T, clone git.Repo, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "make", append([]string{"--no-print-directory"}, args...)...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = clone.Dir, plain(), 5*time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func mustMake(t *testing.T, clone git.Repo, args ...string) string {
	t.Helper()
	out, err := runMake(t, clone, args...)
	if err != nil {
		t.Fatalf("make %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// checkRelease checks the tags, the tree and the changelog after a release.
func checkRelease(t *testing.T, clone git.Repo, version string) {
	t.Helper()
	for _, m := range modules.All {
		if mustGit(t, clone, "rev-parse", m.Tag(version)+"^{commit}") != mustGit(t, clone, "rev-parse", plan.Branch) {
			t.Errorf("%s is not the commit of %s", m.Tag(version), plan.Branch)
		}
	}
	if dirty := mustGit(t, clone, "status", "--porcelain"); dirty != "" {
		t.Errorf("the release left %s", dirty)
	}
	changelog, err := os.ReadFile(filepath.Join(clone.Dir, plan.Changelog))
	if err != nil {
		t.Fatal(err)
	}
	if text := string(changelog); strings.Contains(text, "Nothing is tagged") || !strings.Contains(text, "## Unreleased\n\n## ["+version+"] - ") {
		t.Errorf("the changelog begins with\n%.300s", text)
	}
}

// released is a release that the go command fetches from a clone.
type released struct {
	version string
	env     []string // in which it does
}

// serve prints how to try the release, and waits until it is interrupted.
func (r *released) serve(t *testing.T) {
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Printf("\n%s is served until you press ^C. To fetch it in another shell as if it were published:\n\n", r.version)
	for _, variable := range append(r.env, "GOSUMDB=off") {
		name, value, _ := strings.Cut(variable, "=")
		fmt.Printf("export %s='%s'\n", name, value)
	}
	<-ctx.Done()
}

// run runs a command of a page, and checks that it gets the version.
func (r *released) run(t *testing.T, c command, k kind) {
	dir := t.TempDir()
	script := "set -euxo pipefail\n"
	if k.project {
		script += "go run " + modules.Root + "/cmd/protoc-gen-go-etcd@" + r.version + " init example.com/greeter >&2\n" + checksum + "\n"
	}
	script += c.text + " >&2\n" + k.check + "\n"
	if out := r.script(t, dir, script); !strings.Contains(out, r.version) {
		t.Errorf("%q printed %q; want %s in it", k.check, out, r.version)
	}
}

// moduleCache returns a module cache apart from the user's, without modules of this repository. It is kept in one place
// from run to run, since the go command rebuilds tools whose sources have moved.
func moduleCache(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join(repository, ".cache", "rehearsal", "mod"))
	if err != nil {
		t.Fatal(err)
	}
	forget := func() {
		owner := filepath.FromSlash(path.Dir(modules.Root))
		for _, own := range []string{filepath.Join(dir, owner), filepath.Join(dir, "cache", "download", owner)} {
			if err := os.RemoveAll(own); err != nil {
				t.Error(err)
			}
		}
	}
	forget()
	t.Cleanup(forget)
	return dir
}

// script runs a bash script in a directory, where the go command fetches the release, and returns its output.
func (r *released) script(t *testing.T, dir, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(append(plain(), r.env...), "GOSUMDB=off", "GOBIN="+filepath.Join(t.TempDir(), "gobin"), "TMPDIR="+t.TempDir())
	// A group of its own, so that its background jobs can be killed with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var out, progress strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &progress

	began := time.Now()
	err := cmd.Run()
	t.Logf("in %.0f s:\n%s%s", time.Since(began).Seconds(), progress.String(), out.String())
	if killed := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); killed != nil && !errors.Is(killed, syscall.ESRCH) {
		t.Errorf("kill the script's jobs: %v", killed)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// plain returns the environment without the variables that make and the go command have set for the test.
func plain() (env []string) {
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		switch name {
		case "GOFLAGS", "GOWORK", "GOPROXY", "GONOSUMDB", "GOPRIVATE", "GONOPROXY", "GOBIN", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "VERSION":
		default:
			env = append(env, variable)
		}
	}
	return env
}

// checkDevelopment checks that after a release cmd/etcdrpc is tidy and builds without fetching a module of this repository.
func checkDevelopment(t *testing.T, clone git.Repo) {
	cmd := exec.CommandContext(t.Context(), "bash", "-c", "../../tools/tidy -diff && go vet ./...")
	cmd.Dir, cmd.Env = filepath.Join(clone.Dir, "cmd/etcdrpc"), append(plain(), "GOPRIVATE="+path.Dir(modules.Root), "GOVCS=private:off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// checkNext checks that the next minor version may add to the API, and that a patch version may not take from it.
func checkNext(t *testing.T, clone git.Repo) {
	const file, empty = "runtime/statuspage/rehearsal.go", "package statuspage\n"
	change(t, clone, file, empty+"\n// Rehearsed is new.\nfunc Rehearsed() {}\n")
	minor := next(t, clone)
	timed(t, "make release "+minor, func() { t.Log(mustMake(t, clone, "release", "VERSION="+minor)) })

	change(t, clone, file, empty)
	before := mustGit(t, clone, "for-each-ref")
	patch := strings.TrimSuffix(minor, "0") + "1"
	out, err := runMake(t, clone, "release", "VERSION="+patch)
	t.Logf("make release %s:\n%s", patch, out)
	if want := "Rehearsed: removed"; err == nil || !strings.Contains(out, want) {
		t.Errorf("%v; want %q", err, want)
	}
	if after := mustGit(t, clone, "for-each-ref") + mustGit(t, clone, "status", "--porcelain"); after != before {
		t.Errorf("the refused release left %s", after)
	}
}
