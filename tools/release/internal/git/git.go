// Package git runs git in a repository.
package git

import (
	"context"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/command"
)

// A Repo is a git repository, or a directory in one.
type Repo struct{ Dir string }

// Git runs git and returns its output, without leading and trailing white space.
func (r Repo) Git(ctx context.Context, args ...string) (string, error) {
	out, err := command.Run(ctx, r.Dir, nil, "git", args...)
	return strings.TrimSpace(string(out)), err
}

// Lines runs git and returns the lines of its output.
func (r Repo) Lines(ctx context.Context, args ...string) ([]string, error) {
	out, err := r.Git(ctx, args...)
	if out == "" {
		return nil, err
	}
	return strings.Split(out, "\n"), err
}

// Tags returns the names of the tags that the options of git for-each-ref select, however the user has git tag show them.
func (r Repo) Tags(ctx context.Context, options ...string) ([]string, error) {
	return r.Lines(ctx, slices.Concat([]string{"for-each-ref", "--format=%(refname:lstrip=2)"}, options, []string{"refs/tags"})...)
}

// File returns the content of a file in a revision.
func (r Repo) File(ctx context.Context, revision, name string) ([]byte, error) {
	return command.Run(ctx, r.Dir, nil, "git", "cat-file", "blob", revision+":"+name)
}

// Clone makes a clone in dir, which has the branch and the tags of this repository but not its settings. It runs no hooks, and its
// files are those that are committed, to the byte.
func (r Repo) Clone(ctx context.Context, dir string) (Repo, error) {
	_, err := r.Git(ctx, "clone", "--quiet", "--shared",
		"--config", "core.hooksPath=/dev/null", "--config", "core.autocrlf=false", ".", dir)
	return Repo{dir}, err
}

// Checkout makes a clone in dir and checks out a revision there.
func (r Repo) Checkout(ctx context.Context, dir, revision string) error {
	clone, err := r.Clone(ctx, dir)
	if err != nil {
		return err
	}
	_, err = clone.Git(ctx, "checkout", "--quiet", "--detach", revision)
	return err
}
