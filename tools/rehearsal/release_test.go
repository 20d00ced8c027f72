//go:build unix

// Package rehearsal tries tools/release: on a small repository, and on a clone
// of this one, from which the go command then fetches the release with the
// commands of README and docs.
package rehearsal

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const root = "github.com/etcdrpc/protoc-gen-go-etcd"

// small makes a repository with three almost empty modules, like this
// repository's modules.
const small = `
git init --quiet --initial-branch=main
mkdir -p runtime etcdtest cmd/etcdrpc
printf '# Changelog\n\n## Unreleased\n\nNothing is tagged yet. It will have:\n\n### Added\n\n- All of it.\n' >CHANGELOG.md
printf 'module ` + root + `\n\ngo 1.24\n' >go.mod
printf '// Package runtime is small.\npackage runtime\n\n// Old is old.\nfunc Old() {}\n' >runtime/runtime.go
printf 'module ` + root + `/etcdtest\n\ngo 1.24\n' >etcdtest/go.mod
printf '// Package etcdtest is small.\npackage etcdtest\n\n// Start starts.\nfunc Start() {}\n' >etcdtest/etcdtest.go
printf 'module ` + root + `/cmd/etcdrpc\n\ngo 1.24\n\nrequire (\n\t` + root + ` v0.0.0\n\t` + root + `/etcdtest v0.0.0\n)\n' >cmd/etcdrpc/go.mod
printf 'package main\n\nimport _ "` + root + `/runtime"\n\nfunc main() {}\n' >cmd/etcdrpc/main.go
printf 'package main\n\nimport (\n\t"testing"\n\n\t"` + root + `/etcdtest"\n)\n\nfunc Test(t *testing.T) { etcdtest.Start() }\n' >cmd/etcdrpc/main_test.go
`

// scripts holds shell functions for the scripts below.
const scripts = `
commit() { git add --all && git commit --quiet --no-verify --message Change; }
list() { sed -i.bak 's/^## Unreleased$/&\n\n- A change./' CHANGELOG.md && rm CHANGELOG.md.bak; }
`

// place is a directory in which scripts are run.
type place struct {
	t   *testing.T
	dir string
	env []string // variables added to the test's environment
}

// try runs a bash script and returns its output.
func (p place) try(script string) (string, error) {
	p.t.Helper()

	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Minute)
	defer cancel()

	cmd := exec.CommandContext(ctx, "bash", "-c", "set -euo pipefail\n"+scripts+script)
	cmd.Dir = p.dir
	cmd.Env = append(plain(), p.env...)

	// The script has its own process group, so that its background jobs can be
	// killed, too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second

	var out bytes.Buffer
	cmd.Stdout = &out
	cmd.Stderr = &out
	err := cmd.Run()

	if killed := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); killed == nil {
		p.t.Logf("%q left running processes, which were killed", script)
	}

	return strings.TrimSpace(out.String()), err
}

func (p place) must(script string) string {
	p.t.Helper()

	out, err := p.try(script)
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", script, err, out)
	}

	return out
}

// plain returns the environment without the variables that make, the go command
// and a hook of git have set for the test.
func plain() (env []string) {
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")

		switch name {
		case "GOFLAGS", "GOWORK", "GOPROXY", "GONOSUMDB", "GOPRIVATE", "GONOPROXY", "GOBIN",
			"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "VERSION",
			"GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_PREFIX":
		default:
			env = append(env, variable)
		}
	}

	for _, who := range []string{"GIT_AUTHOR", "GIT_COMMITTER"} {
		env = append(env, who+"_NAME=Rehearsal", who+"_EMAIL=rehearsal@example.com")
	}

	return append(env, "LC_ALL=C") // bash warns of locales that are not installed
}

// tool returns the path of a script of tools, quoted.
func tool(t *testing.T, name string) string {
	t.Helper()

	path, err := filepath.Abs(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}

	return "'" + path + "'"
}

func newSmall(t *testing.T) place {
	t.Helper()

	p := place{t, filepath.Join(t.TempDir(), "a repository"), []string{
		"GIT_CONFIG_GLOBAL=" + os.DevNull,
		"GIT_CONFIG_SYSTEM=" + os.DevNull,
		"GOPROXY=off",
	}}
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		t.Fatal(err)
	}

	p.must(small + "commit")

	return p
}

func (p place) release(version string) (string, error) {
	p.t.Helper()
	return p.try(tool(p.t, "release") + " '" + version + "' . etcdtest cmd/etcdrpc")
}

// refuses checks that a release fails, prints all of wants, and changes no
// branches, tags, index or files.
func (p place) refuses(version string, wants ...string) {
	p.t.Helper()

	const everything = "git for-each-ref; git rev-parse HEAD; git status --porcelain; git diff HEAD; git ls-files --stage"
	before := p.must(everything)

	out, err := p.release(version)
	for _, want := range wants {
		if err == nil || !strings.Contains(out, want) {
			p.t.Errorf("the release %s: %v, %s; want an error with %q", version, err, out, want)
		}
	}

	if after := p.must(everything); after != before {
		p.t.Errorf("the refused release %s changed the repository from\n%s\nto\n%s", version,
			before, after)
	}
}

func TestRelease(t *testing.T) {
	p := newSmall(t)
	out, err := p.release("v0.1.0")
	if err != nil {
		t.Fatal(out)
	}

	for _, want := range []string{
		"There is no release yet",
		"git tag -d etcdtest/v0.1.0 cmd/etcdrpc/v0.1.0 v0.1.0 && git reset --keep HEAD^",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the release prints\n%s\nwant %q in it", out, want)
		}
	}

	for script, want := range map[string]string{
		"git for-each-ref --format='%(refname) %(objecttype)' --points-at=main refs/tags": "refs/tags/cmd/etcdrpc/v0.1.0 tag\nrefs/tags/etcdtest/v0.1.0 tag\nrefs/tags/v0.1.0 tag",
		"git diff --name-only HEAD^ HEAD":                                                 "CHANGELOG.md\ncmd/etcdrpc/go.mod\ncmd/etcdrpc/go.sum",
		"git status --porcelain":                                                          "",
		"sed 's/- 20.*/- DATE/' CHANGELOG.md": "# Changelog\n\n## Unreleased\n\n## [v0.1.0] - DATE\n\n### Added\n\n- All of it.\n\n" +
			"[v0.1.0]: https://" + root + "/releases/tag/v0.1.0",
	} {
		if got := p.must(script); got != want {
			t.Errorf("%s: %s, want %s", script, got, want)
		}
	}

	// The go command fetches the tags, as if they were pushed, and compares
	// them with go.sum.
	p.must("cd cmd/etcdrpc && " + tool(t, "from") +
		" \"$OLDPWD\" '" + t.TempDir() + "' sh -ec 'go mod verify && go vet ./...'")

	// The printed push commands work even if a branch has the tag's name.
	p.must("git branch v0.1.0; git init --quiet --bare ../origin; git remote add origin ../origin")

	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "git push") {
			p.must(line)
		}
	}

	p.refuses("v0.1.0", "the tag v0.1.0 exists\nthe tag etcdtest/v0.1.0 exists",
		"v0.1.0 does not come after v0.1.0", "lists nothing")

	// A clone without the tags of the last release is refused: it looks like a
	// project without a release.
	p.must("list; commit; git clone --quiet --no-tags . ../clone")
	place{t, p.dir + "/../clone", p.env}.refuses("v0.2.0", "git fetch --tags")
}

func TestReleaseRefusals(t *testing.T) {
	for name, tt := range map[string]struct{ prepare, version, want string }{
		"every fault at once": {"git switch --quiet -c topic; echo >note; echo '# Changelog' >CHANGELOG.md; printf 'replace a => b\n' >>etcdtest/go.mod; git commit -qam x",
			"v1", "'v1' is not a version|the branch is 'topic'|not committed:|?? note|etcdtest/go.mod has a replace directive|lists nothing"},
		"no branch": {"git switch --quiet --detach", "v0.1.0", "the branch is ''"},
		"headings alone": {"sed -i.bak '/^- /d' CHANGELOG.md; rm *.bak; commit", "v0.1.0",
			"lists nothing"},
		"another major": {"", "v2.0.0", "'v2.0.0' is not a version"},
		"a build that ends": {
			"sed -i.bak 's/Start/Begin/' cmd/etcdrpc/main_test.go; rm */*/*.bak; commit", "v0.1.0",
			"cmd/etcdrpc, built as users will fetch it:|undefined: etcdtest.Begin"},
		"an interrupted tag": {fmt.Sprintf(`printf '%%s\n' '#!/bin/sh' '[ "$1" = committed ] && grep -q "refs/tags/%s$" && kill -INT $PPID; exit 0' >.git/hooks/reference-transaction
			chmod +x .git/hooks/reference-transaction`, "etcdtest/v0.1.0"), "v0.1.0", "git tag failed"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newSmall(t)
			p.must(tt.prepare)
			p.refuses(tt.version, strings.Split(tt.want, "|")...)
		})
	}
}
