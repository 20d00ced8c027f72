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
)

// stage makes the release in a clone below temp, and builds there the modules that require others, which it fetches by the tags.
// The clone's last commit has the release's files.
//
// A go.sum holds the checksums of modules that are tagged on the commit that adds it. That is no circle: the archive of a
// module leaves out nested modules, so their go.sum changes no checksum.
func stage(ctx context.Context, repo git.Repo, p *plan.Plan, temp string) (git.Repo, error) {
	clone, err := repo.Clone(ctx, filepath.Join(temp, "clone"))
	if err != nil {
		return clone, err
	}
	for name, text := range p.Files {
		if err := os.WriteFile(filepath.Join(clone.Dir, filepath.FromSlash(name)), []byte(text), 0o644); err != nil {
			return clone, err
		}
	}
	for i, m := range p.Pinned {
		if err := tagAll(ctx, clone, p); err != nil {
			return clone, err
		}
		env, err := clone.Env(ctx, filepath.Join(temp, fmt.Sprintf("modcache-%d", i)))
		if err != nil {
			return clone, err
		}
		if err := fetchAndBuild(ctx, clone, m, env); err != nil {
			return clone, err
		}
	}
	return clone, tagAll(ctx, clone, p)
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
