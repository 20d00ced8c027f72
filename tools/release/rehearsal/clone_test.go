//go:build unix

package rehearsal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	execute "github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/command"
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
	index := []string{"GIT_INDEX_FILE=" + filepath.Join(t.TempDir(), "index")} // the user's stays as it is
	var tree []byte
	for _, args := range [][]string{{"read-tree", "HEAD"}, {"add", "--all", ":/"}, {"write-tree"}} {
		var err error
		if tree, err = execute.Run(t.Context(), repository, index, "git", args...); err != nil {
			t.Fatal(err)
		}
	}
	source := git.Repo{Dir: repository}
	commit := mustGit(t, source, "commit-tree", "-p", "HEAD", "-m", "Commit the changes", strings.TrimSpace(string(tree)))
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	clone, err := source.Clone(t.Context(), filepath.Join(dir, "clone"))
	if err != nil {
		t.Fatal(err)
	}
	mustGit(t, clone, "checkout", "--quiet", "-B", plan.Branch, commit)
	return clone
}

func mustGit(t *testing.T, repo git.Repo, args ...string) string {
	t.Helper()
	out, err := repo.Git(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// change writes a file of the clone, lists that as unreleased, and commits both.
func change(t *testing.T, clone git.Repo, name, text string) {
	t.Helper()
	changelog := filepath.Join(clone.Dir, plan.Changelog)
	old, err := os.ReadFile(changelog)
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.Replace(string(old), "## Unreleased\n", "## Unreleased\n\n### Changed\n\n- What the rehearsal changes.\n", 1)
	for file, text := range map[string]string{changelog: listed, filepath.Join(clone.Dir, name): text} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustGit(t, clone, "add", "--all")
	mustGit(t, clone, "commit", "--quiet", "--no-verify", "--message", "Change")
}

// next returns the next minor version after all that are tagged.
func next(t *testing.T, clone git.Repo) string {
	t.Helper()
	tags, err := clone.Tags(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if last := plan.Last(tags); last != "" {
		if _, err := fmt.Sscanf(last, "v%d.%d", &major, &minor); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("v%d.%d.0", major, minor+1)
}
