package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/git"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/proxy"
)

// staged is the commit to be, as it was tried.
type staged struct {
	base  string            // the commit before it
	files map[string][]byte // those that change
	tree  string            // git's name for all files
}

// stage makes the release in a clone, and builds there what requires other modules, fetched as its tags have them.
//
// A go.sum has the sums of modules that carry the version that its own commit gets. There is no circle, since the
// archive of a module leaves out the modules below it: the sums stay the same when the commit gets its go.sum.
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

// fetchAndBuild completes go.mod and go.sum of a module and builds it with its tests.
func fetchAndBuild(ctx context.Context, clone git.Repo, m modules.Module, env []string) error {
	module := git.Repo{Dir: filepath.Join(clone.Dir, filepath.FromSlash(m.Dir))}
	for _, args := range [][]string{{"mod", "tidy"}, {"vet", "./..."}} {
		if _, err := module.Run(ctx, env, "go", args...); err != nil {
			return fmt.Errorf("%s, with the modules it requires as users will fetch them: %w", m.Dir, err)
		}
	}
	return nil
}

// tagAll commits all that has changed and points the tags of the release at it.
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

// collect returns what the clone has changed.
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
