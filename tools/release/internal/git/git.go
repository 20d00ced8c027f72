// Package git runs git in a repository, and has the go command fetch from one.
package git

import (
	"context"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/command"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
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

// Env returns an environment in which the go command fetches the modules of this repository from the tags here, as if they were
// pushed, and all others from the user's module cache or GOPROXY. The module cache modcache must not be the user's, since the
// tags may never be pushed, and no older than they are. With -trimpath, builds are shared by all such caches.
func (r Repo) Env(ctx context.Context, modcache string) ([]string, error) {
	out, err := command.Run(ctx, r.Dir, nil, "go", "env", "GOMODCACHE", "GOPROXY", "GOVCS")
	if err != nil {
		return nil, err
	}
	user := strings.Split(string(out), "\n")
	cache := url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(user[0], "cache", "download"))}
	return []string{
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url.file://" + r.Dir + ".insteadOf", "GIT_CONFIG_VALUE_0=https://" + modules.Root,
		"GONOPROXY=" + modules.Root, "GONOSUMDB=" + modules.Root, "GOPRIVATE=none",
		"GOVCS=" + strings.TrimSuffix(modules.Root+":git,"+user[2], ","),
		"GOPROXY=" + cache.String() + "," + user[1], "GOMODCACHE=" + modcache,
		"GOWORK=off", "GOFLAGS=-modcacherw -trimpath", "GOBIN=",
		// The go command takes a released version to be the same for good, and keeps an index of it beside what it has
		// built: where a release is tried again, it would look for the files of the last time.
		"GODEBUG=goindex=0",
	}, nil
}
