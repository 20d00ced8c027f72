package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestColumnsHideNoTags says that tags are found however the user has git show them.
func TestColumnsHideNoTags(t *testing.T) {
	repo := newSmall(t)
	mustRelease(t, repo, "v0.1.0")
	removeOld(t, repo)
	run(t, repo, "config", "column.ui", "always")
	mustRefuse(t, repo, "v0.1.1", "would have to be v0.2.0")
}

// TestCarriageReturns says that a release is possible where git writes files with carriage returns.
func TestCarriageReturns(t *testing.T) {
	repo := newSmall(t)
	run(t, repo, "config", "--file", filepath.Join(repo.Dir, "..", "gitconfig"), "core.autocrlf", "true")
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(repo.Dir, "..", "gitconfig"))
	run(t, repo, "rm", "-rq", "--cached", ".")
	run(t, repo, "reset", "--hard", "--quiet")
	mustRelease(t, repo, "v0.1.0")
	checkSums(t, repo)
}

// TestHooksOfAll says that hooks of the user for all repositories see the release's commit alone.
func TestHooksOfAll(t *testing.T) {
	repo := newSmall(t)
	hooks := t.TempDir()
	seen := filepath.Join(hooks, "seen")
	for _, name := range []string{"prepare-commit-msg", "post-commit", "post-checkout", "pre-commit", "commit-msg"} {
		if err := os.WriteFile(filepath.Join(hooks, name), []byte("#!/bin/sh\necho "+name+" $PWD >>"+seen+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	global := filepath.Join(t.TempDir(), "gitconfig")
	run(t, repo, "config", "--file", global, "core.hooksPath", hooks)
	t.Setenv("GIT_CONFIG_GLOBAL", global)
	mustRelease(t, repo, "v0.1.0")
	text, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, dir, _ := strings.Cut(strings.TrimSpace(line), " "); dir != repo.Dir {
			t.Errorf("a hook ran elsewhere: %s", line)
		}
	}
}

// TestBranchNamedLikeATag says that what is printed to push can be run where a branch has the tag's name.
func TestBranchNamedLikeATag(t *testing.T) {
	repo := newSmall(t)
	run(t, repo, "branch", "v0.1.0")
	remote := t.TempDir()
	run(t, repo, "init", "--quiet", "--bare", remote)
	run(t, repo, "remote", "add", "origin", remote)
	out := mustRelease(t, repo, "v0.1.0")
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
