package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/command"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/git"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
)

// small holds the files of a repository that has the modules of this one, almost empty.
var small = map[string]string{
	"CHANGELOG.md":                "# Changelog\n\n## Unreleased\n\nNothing is tagged yet.\n\n### Added\n\n- All of it.\n",
	"LICENSE":                     "None.\n",
	"go.mod":                      "module " + modules.Root + "\n\ngo 1.24\n",
	"runtime/runtime.go":          "// Package runtime is small.\npackage runtime\n\n// Old is old.\nfunc Old() {}\n",
	"internal/secret/secret.go":   "// Package secret is no API.\npackage secret\n\n// Word is secret.\nconst Word = 1\n",
	"etcdtest/go.mod":             "module " + modules.Root + "/etcdtest\n\ngo 1.24\n",
	"etcdtest/etcdtest.go":        "// Package etcdtest is small.\npackage etcdtest\n\n// Start starts.\nfunc Start() {}\n",
	"outlierdetection/go.mod":     "module " + modules.Root + "/outlierdetection\n\ngo 1.24\n",
	"outlierdetection/outlier.go": "// Package outlierdetection is small.\npackage outlierdetection\n",
	"connectetcd/go.mod":          "module " + modules.Root + "/connectetcd\n\ngo 1.24\n\nrequire " + modules.Root + " v0.0.0\n",
	"connectetcd/go.work":         "go 1.24\n\nuse .\n\nreplace (\n\t" + modules.Root + " => ..\n)\n",
	"connectetcd/connectetcd.go":  "// Package connectetcd is small.\npackage connectetcd\n\nimport _ \"" + modules.Root + "/runtime\"\n",
	"xds/go.mod":                  "module " + modules.Root + "/xds\n\ngo 1.24\n\nrequire " + modules.Root + " v0.0.0\n",
	"xds/go.work":                 "go 1.24\n\nuse .\n\nreplace (\n\t" + modules.Root + " => ..\n)\n",
	"xds/xds.go":                  "// Package xds is small.\npackage xds\n\nimport _ \"" + modules.Root + "/runtime\"\n",
	"cmd/etcdrpc/go.mod": "module " + modules.Root + "/cmd/etcdrpc\n\ngo 1.24\n\nrequire (\n\t" +
		modules.Root + " v0.0.0\n\t" + modules.Root + "/etcdtest v0.0.0\n\t" + modules.Root + "/xds v0.0.0\n)\n",
	"cmd/etcdrpc/go.work": "go 1.24\n\nuse .\n\nreplace (\n\t" + modules.Root + " => ../..\n\t" + modules.Root + "/etcdtest => ../../etcdtest\n\t" + modules.Root + "/xds => ../../xds\n)\n",
	"cmd/etcdrpc/main.go": "// Command etcdrpc is small.\npackage main\n\nimport (\n\t_ \"" + modules.Root + "/internal/secret\"\n\t_ \"" + modules.Root + "/xds\"\n)\n\nfunc main() {}\n",
	"cmd/etcdrpc/main_test.go": "package main\n\nimport (\n\t\"testing\"\n\n\t\"" + modules.Root + "/etcdtest\"\n)\n\n" +
		"func Test(t *testing.T) { etcdtest.Start() }\n",
}

// newSmall returns that repository, with one commit on main.
func newSmall(t *testing.T) git.Repo {
	t.Helper()
	if err := fetchTools(); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_SYSTEM": os.DevNull, "GOFLAGS": "", "GOPROXY": "off",
		"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.com",
	} {
		t.Setenv(name, value)
	}
	repo := git.Repo{Dir: t.TempDir()}
	run(t, repo, "init", "--quiet", "--initial-branch=main")
	for name, text := range small {
		write(t, repo, name, text)
	}
	commitAll(t, repo)
	return repo
}

// fetchTools builds what checkAPI runs while modules may still be fetched, which they may not be in the small repository.
var fetchTools = sync.OnceValue(func() error {
	_, err := command.Run(context.Background(), ".", []string{"GOWORK=off"}, "go", "tool", "-n", "gorelease")
	return err
})

func run(t *testing.T, repo git.Repo, args ...string) string {
	t.Helper()
	out, err := repo.Git(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func write(t *testing.T, repo git.Repo, name, text string) {
	t.Helper()
	file := filepath.Join(repo.Dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, repo git.Repo, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repo.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func commitAll(t *testing.T, repo git.Repo) {
	t.Helper()
	run(t, repo, "add", "--all")
	run(t, repo, "commit", "--quiet", "--message", "Change")
}

// everything returns all that a release could change: branches, tags, index and files.
func everything(t *testing.T, repo git.Repo) string {
	t.Helper()
	return run(t, repo, "for-each-ref") + run(t, repo, "rev-parse", "HEAD") + run(t, repo, "status", "--porcelain") +
		run(t, repo, "diff", "HEAD") + run(t, repo, "ls-files", "--stage")
}

// list adds an item to the unreleased changes.
func list(t *testing.T, repo git.Repo, item string) {
	t.Helper()
	text := read(t, repo, "CHANGELOG.md")
	write(t, repo, "CHANGELOG.md", strings.Replace(text, "## Unreleased\n", "## Unreleased\n\n### Changed\n\n- "+item+"\n", 1))
}

// addNew commits a function that is new in a package.
func addNew(t *testing.T, repo git.Repo, name string) {
	t.Helper()
	write(t, repo, name+"/new.go", "package "+name+"\n\n// New is new.\nfunc New() {}\n")
	list(t, repo, "New.")
	commitAll(t, repo)
}

// removeOld commits that the function of package runtime is gone.
func removeOld(t *testing.T, repo git.Repo) {
	t.Helper()
	write(t, repo, "runtime/runtime.go", "// Package runtime is small.\npackage runtime\n")
	list(t, repo, "Old is gone.")
	commitAll(t, repo)
}

func mustRelease(t *testing.T, repo git.Repo, version string) string {
	t.Helper()
	var out bytes.Buffer
	if err := release(t.Context(), repo, version, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// mustRefuse checks that the release fails with want in the error, and changes nothing.
func mustRefuse(t *testing.T, repo git.Repo, version, want string) {
	t.Helper()
	before := everything(t, repo)
	err := release(t.Context(), repo, version, new(bytes.Buffer))
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v; want %q", version, err, want)
	}
	if after := everything(t, repo); after != before {
		t.Errorf("%s: there was\n%s\nand is\n%s", version, before, after)
	}
}

func TestRelease(t *testing.T) {
	repo := newSmall(t)
	out := mustRelease(t, repo, "v0.1.0")
	for _, want := range []string{
		"There is no release yet",
		"git push --atomic origin main refs/tags/etcdtest/v0.1.0 refs/tags/outlierdetection/v0.1.0 refs/tags/connectetcd/v0.1.0 refs/tags/xds/v0.1.0 refs/tags/cmd/etcdrpc/v0.1.0\n" +
			"  git push origin refs/tags/v0.1.0\n",
		"git tag -d etcdtest/v0.1.0 outlierdetection/v0.1.0 connectetcd/v0.1.0 xds/v0.1.0 cmd/etcdrpc/v0.1.0 v0.1.0 && git reset --keep HEAD^",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it says\n%s\nwithout %q", out, want)
		}
	}
	for _, m := range modules.All {
		tag := m.Tag("v0.1.0")
		if got := run(t, repo, "cat-file", "-t", tag); got != "tag" {
			t.Errorf("%s is a %s", tag, got)
		}
		if run(t, repo, "rev-parse", tag+"^{commit}") != run(t, repo, "rev-parse", "main") {
			t.Errorf("%s is not the commit of main", tag)
		}
	}
	if got := run(t, repo, "diff", "--name-only", "HEAD^", "HEAD"); got != "CHANGELOG.md\ncmd/etcdrpc/go.mod\ncmd/etcdrpc/go.sum\nconnectetcd/go.mod\nconnectetcd/go.sum\nxds/go.mod\nxds/go.sum" {
		t.Errorf("it has changed %s", got)
	}
	if dirty := run(t, repo, "status", "--porcelain"); dirty != "" {
		t.Errorf("it has left %s", dirty)
	}
	checkSums(t, repo)

	// What is printed to push can be run where a branch has the tag's name.
	run(t, repo, "branch", "v0.1.0")
	run(t, repo, "remote", "add", "origin", t.TempDir())
	run(t, repo, "init", "--quiet", "--bare", run(t, repo, "remote", "get-url", "origin"))
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "git push") {
			cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
			cmd.Dir = repo.Dir
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", line, err, text)
			}
		}
	}
}

// checkSums has the go command fetch the tags, as if they were pushed, and compare them with go.sum.
func checkSums(t *testing.T, repo git.Repo) {
	t.Helper()
	env, err := repo.Env(t.Context(), filepath.Join(t.TempDir(), "mod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mod", "verify"}, {"vet", "./..."}} {
		if _, err := command.Run(t.Context(), filepath.Join(repo.Dir, "cmd/etcdrpc"), env, "go", args...); err != nil {
			t.Error(err)
		}
	}
}

func TestNextReleases(t *testing.T) {
	repo := newSmall(t)
	run(t, repo, "config", "column.ui", "always") // tags are found however the user has git show them
	mustRelease(t, repo, "v0.1.0")

	addNew(t, repo, "etcdtest")
	mustRefuse(t, repo, "v0.1.1", "v0.1.1 would have to be v0.2.0 or later:\n# "+modules.Root+"/etcdtest\n## compatible changes\nNew: added")
	mustRefuse(t, repo, "v0.1.0", "the tag v0.1.0 exists\nthe tag etcdtest/v0.1.0 exists")
	if out := mustRelease(t, repo, "v0.2.0"); !strings.Contains(out, "New: added") {
		t.Errorf("it says\n%s", out)
	}

	write(t, repo, "internal/secret/more.go", "package secret\n\n// More is more.\nconst More = 1\n")
	removeOld(t, repo)
	mustRefuse(t, repo, "v0.2.1", "v0.2.1 would have to be v0.3.0 or later:\n# "+modules.Root+"/runtime\n## incompatible changes\nOld: removed")
	mustRelease(t, repo, "v0.3.0")
	if text := read(t, repo, "CHANGELOG.md"); !strings.Contains(text, "## Unreleased\n\n## [v0.3.0] - ") || !strings.Contains(text, "## [v0.2.0] - ") {
		t.Errorf("the changelog is\n%s", text)
	}
	checkSums(t, repo)
}

// TestCloneWithoutTags says that a clone without the last release's tags is not taken for a first release.
func TestCloneWithoutTags(t *testing.T) {
	repo := newSmall(t)
	mustRelease(t, repo, "v0.1.0")
	removeOld(t, repo)
	for name, flags := range map[string][]string{"no tags": {"--no-tags"}, "shallow": {"--depth=1"}} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "clone")
			run(t, repo, append(append([]string{"clone", "--quiet"}, flags...), "file://"+repo.Dir, dir)...)
			mustRefuse(t, git.Repo{Dir: dir}, "v0.1.1", "v0.1.0")
		})
	}
}

// TestCandidates says that a version can follow its candidate with nothing changed in between, and that a fix can be released while
// there are candidates of the next minor version.
func TestCandidates(t *testing.T) {
	repo := newSmall(t)
	mustRelease(t, repo, "v0.1.0-rc.1")
	mustRelease(t, repo, "v0.1.0")
	addNew(t, repo, "runtime")
	mustRelease(t, repo, "v0.2.0-rc.1")
	list(t, repo, "A fix.")
	run(t, repo, "rm", "-q", "runtime/new.go")
	commitAll(t, repo)
	mustRelease(t, repo, "v0.1.1")
}

// TestCarriageReturns says that a release is possible where git writes files with carriage returns.
func TestCarriageReturns(t *testing.T) {
	repo := newSmall(t)
	run(t, repo, "config", "core.autocrlf", "true")
	run(t, repo, "rm", "-rq", "--cached", ".")
	run(t, repo, "reset", "--hard", "--quiet")
	mustRelease(t, repo, "v0.1.0")
	checkSums(t, repo)
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(*testing.T, git.Repo)
		version string
		want    string
	}{
		{"a changed file", func(t *testing.T, r git.Repo) { list(t, r, "More.") }, "v0.1.0", "not committed:\nM CHANGELOG.md"},
		{"a new file", func(t *testing.T, r git.Repo) { write(t, r, "note", "") }, "v0.1.0", "not committed:\n?? note"},
		{"another branch", func(t *testing.T, r git.Repo) { run(t, r, "switch", "--quiet", "-c", "topic") }, "v0.1.0", "the branch is topic"},
		{"no branch", func(t *testing.T, r git.Repo) { run(t, r, "switch", "--quiet", "--detach") }, "v0.1.0", "no branch is checked out"},
		{"what does not build", func(t *testing.T, r git.Repo) {
			write(t, r, "cmd/etcdrpc/main_test.go", strings.Replace(small["cmd/etcdrpc/main_test.go"], "Start()", "Begin()", 1))
			commitAll(t, r)
		}, "v0.1.0", "undefined: etcdtest.Begin"},
		{"an interrupted tag", func(t *testing.T, r git.Repo) { interrupt(t, r, "etcdtest/v0.1.0") }, "v0.1.0", "git tag"},
		{"an interrupted last tag", func(t *testing.T, r git.Repo) { interrupt(t, r, "v0.1.0") }, "v0.1.0", "git tag"},
		{"a tag where a tag needs a directory", func(t *testing.T, r git.Repo) { run(t, r, "tag", "cmd") }, "v0.1.0", "cmd/etcdrpc/v0.1.0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			repo := newSmall(t)
			if tt.prepare != nil {
				tt.prepare(t, repo)
			}
			mustRefuse(t, repo, tt.version, tt.want)
		})
	}
}

// interrupt makes git interrupt itself once it has made a tag, the first time.
func interrupt(t *testing.T, repo git.Repo, tag string) {
	t.Helper()
	hook := filepath.Join(".git", "hooks", "reference-transaction")
	write(t, repo, hook, "#!/bin/sh\n[ \"$1\" = committed ] && grep -q 'refs/tags/"+tag+"$' && mkdir .git/interrupted && kill -INT $PPID; exit 0\n")
	if err := os.Chmod(filepath.Join(repo.Dir, hook), 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestInsideAHook runs a test as a hook of git does, which has its repository in the environment.
func TestInsideAHook(t *testing.T) {
	outer := newSmall(t)
	before := everything(t, outer)
	env := []string{"GIT_DIR=" + filepath.Join(outer.Dir, ".git"), "GIT_INDEX_FILE=" + filepath.Join(outer.Dir, ".git", "index")}
	if _, err := command.Run(t.Context(), ".", env, os.Args[0], "-test.run=^TestRelease$"); err != nil {
		t.Error(err)
	}
	if after := everything(t, outer); after != before {
		t.Errorf("there was\n%s\nand is\n%s", before, after)
	}
}
