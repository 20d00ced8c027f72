package rehearsal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/semver"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/git"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/plan"
)

// newClone returns a clone of the repository, on main, where uncommitted changes are committed.
func newClone(t *testing.T) git.Repo {
	t.Helper()
	for name, value := range map[string]string{
		"GIT_AUTHOR_NAME": "Rehearsal", "GIT_AUTHOR_EMAIL": "rehearsal@example.com",
		"GIT_COMMITTER_NAME": "Rehearsal", "GIT_COMMITTER_EMAIL": "rehearsal@example.com",
	} {
		t.Setenv(name, value)
	}
	source := git.Repo{Dir: repository}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	clone, err := source.Clone(t.Context(), filepath.Join(dir, "clone"))
	if err != nil {
		t.Fatal(err)
	}
	run(t, clone, "checkout", "--quiet", "-B", plan.Branch)
	run(t, clone, "rm", "--quiet", "-r", ".")
	for _, name := range strings.Split(strings.TrimSuffix(run(t, source, "ls-files", "-z", "--full-name", "--cached", "--others", "--exclude-standard", ":/"), "\x00"), "\x00") {
		copyFile(t, filepath.Join(repository, name), filepath.Join(clone.Dir, name))
	}
	commitAll(t, clone, "Commit the changes")
	return clone
}

// copyFile copies a file if it exists.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	if os.IsNotExist(err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, info.Mode().Perm()); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, repo git.Repo, args ...string) string {
	t.Helper()
	out, err := repo.Git(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func commitAll(t *testing.T, repo git.Repo, message string) {
	t.Helper()
	run(t, repo, "add", "--all")
	run(t, repo, "commit", "--quiet", "--no-verify", "--allow-empty", "--message", message)
}

// change appends to a file of the clone, lists that as unreleased, and commits both.
func change(t *testing.T, clone git.Repo, name, text string) {
	t.Helper()
	edit(t, clone, name, func(old string) string { return old + text })
	edit(t, clone, plan.Changelog, func(old string) string {
		return strings.Replace(old, "## Unreleased\n", "## Unreleased\n\n### Changed\n\n- What the rehearsal changes.\n", 1)
	})
	commitAll(t, clone, "Change")
}

func edit(t *testing.T, clone git.Repo, name string, by func(string) string) {
	t.Helper()
	file := filepath.Join(clone.Dir, name)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(by(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
}

// next returns the next minor version after all that are tagged.
func next(t *testing.T, clone git.Repo) string {
	t.Helper()
	tags, err := clone.Tags(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last := plan.Last(tags)
	if last == "" {
		return "v0.1.0"
	}
	return plan.Lowest(semver.Canonical(strings.TrimSuffix(last, semver.Prerelease(last))), []plan.Change{{Compatible: true}})
}
