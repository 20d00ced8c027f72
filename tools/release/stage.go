package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/command"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/git"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/proxy"
)

// staged is the content of the release commit, as it was built in the clone.
type staged struct {
	base  string            // the commit before it
	files map[string][]byte // that the release changes
	tree  string            // git's hash of all files
}

// stage makes the release in a clone and builds there the modules that require others, which it fetches by the tags.
//
// A go.sum holds the checksums of modules that are tagged on the commit that adds it. That is no circle: the archive of a
// module leaves out nested modules, so their go.sum changes no checksum.
func stage(ctx context.Context, repo git.Repo, p *plan.Plan) (*staged, error) {
	temp, err := os.MkdirTemp("", "release")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	if temp, err = filepath.EvalSymlinks(temp); err != nil {
		return nil, err
	}
	clone, err := repo.Clone(ctx, filepath.Join(temp, "clone"))
	if err != nil {
		return nil, err
	}
	base, err := clone.Git(ctx, "rev-parse", "HEAD")
	if err != nil {
		return nil, err
	}
	for name, text := range p.Files {
		if err := os.WriteFile(filepath.Join(clone.Dir, filepath.FromSlash(name)), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	if err := tagAll(ctx, clone, p); err != nil {
		return nil, err
	}
	served, err := proxy.Start(ctx, clone)
	if err != nil {
		return nil, err
	}
	defer served.Close()
	env := served.Env(filepath.Join(temp, "modcache"))
	for _, m := range p.Pinned {
		if err := fetchAndBuild(ctx, clone, m, env); err != nil {
			return nil, err
		}
		if err := tagAll(ctx, clone, p); err != nil {
			return nil, err
		}
	}
	return collect(ctx, clone, base)
}

// fetchAndBuild completes the go.mod and go.sum of a module, and compiles it with its tests.
func fetchAndBuild(ctx context.Context, clone git.Repo, m modules.Module, env []string) error {
	dir := filepath.Join(clone.Dir, filepath.FromSlash(m.Dir))
	for _, args := range [][]string{{"mod", "tidy"}, {"vet", "./..."}} {
		if _, err := command.Run(ctx, dir, env, "go", args...); err != nil {
			return fmt.Errorf("%s, built as users will fetch it: %w", m.Dir, err)
		}
	}
	return nil
}

// tagAll commits all changes and points the tags of the release at the commit.
func tagAll(ctx context.Context, clone git.Repo, p *plan.Plan) error {
	if _, err := clone.Git(ctx, "add", "--all"); err != nil {
		return err
	}
	if _, err := clone.Git(ctx, "-c", "user.name=release", "-c", "user.email=release@localhost", "-c", "commit.gpgSign=false",
		"commit", "--quiet", "--no-verify", "--allow-empty", "--message", "Try"); err != nil {
		return err
	}
	for _, tag := range p.Tags {
		if _, err := clone.Git(ctx, "update-ref", "refs/tags/"+tag, "HEAD"); err != nil {
			return err
		}
	}
	return nil
}

// collect returns the changes of the clone since base.
func collect(ctx context.Context, clone git.Repo, base string) (*staged, error) {
	tree, err := clone.Git(ctx, "rev-parse", "HEAD^{tree}")
	if err != nil {
		return nil, err
	}
	names, err := clone.Lines(ctx, "-c", "core.quotePath=false", "diff", "--name-only", base, "HEAD")
	if err != nil {
		return nil, err
	}
	s := &staged{base: base, files: make(map[string][]byte), tree: tree}
	for _, name := range names {
		if s.files[name], err = os.ReadFile(filepath.Join(clone.Dir, filepath.FromSlash(name))); err != nil {
			return nil, err
		}
	}
	return s, nil
}
