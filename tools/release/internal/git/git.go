// Package git runs git and other commands in a repository.
package git

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// A Repo is a directory of a repository.
type Repo struct{ Dir string }

// Git runs git and returns what it prints, without the white space around it.
func (r Repo) Git(ctx context.Context, args ...string) (string, error) {
	out, err := r.Run(ctx, nil, "git", args...)
	return strings.TrimSpace(string(out)), err
}

// Lines runs git and returns the lines that it prints.
func (r Repo) Lines(ctx context.Context, args ...string) ([]string, error) {
	out, err := r.Git(ctx, args...)
	if out == "" {
		return nil, err
	}
	return strings.Split(out, "\n"), err
}

// Run runs a command with more in its environment, and returns its standard output.
func (r Repo) Run(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = r.Dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // upon which git removes its locks
	// What a command leaves behind may hold its output open.
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()+stdout.String()))
	}
	return stdout.Bytes(), nil
}

// Clone makes a clone at dir, which has the branch and the tags of this repository and none of its settings.
func (r Repo) Clone(ctx context.Context, dir string) (Repo, error) {
	_, err := r.Git(ctx, "clone", "--quiet", "--shared", ".", dir)
	return Repo{dir}, err
}

// Checkout makes a clone at dir that has the files of a revision.
func (r Repo) Checkout(ctx context.Context, dir, revision string) error {
	clone, err := r.Clone(ctx, dir)
	if err != nil {
		return err
	}
	_, err = clone.Git(ctx, "checkout", "--quiet", "--detach", revision)
	return err
}
