// Package git runs git in a repository.
package git

import (
	"context"
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

// Clone makes a clone in dir, which has the branch and the tags of this repository but not its settings.
func (r Repo) Clone(ctx context.Context, dir string) (Repo, error) {
	_, err := r.Git(ctx, "clone", "--quiet", "--shared", ".", dir)
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
