package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/git"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/plan"
)

// apply commits and tags what was staged, with the user's name, hooks and signature. If that fails, it undoes what it did.
// The tags are annotated: they name who made the release and when, and git describe finds no others.
func apply(ctx context.Context, repo git.Repo, p *plan.Plan, s *staged) (err error) {
	if err := unchanged(ctx, repo, s.base); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, undo(context.WithoutCancel(ctx), repo, p, s))
		}
	}()
	if err := commit(ctx, repo, p, s); err != nil {
		return err
	}
	for _, tag := range p.Tags {
		if _, err := repo.Git(ctx, "tag", "--annotate", "--message", "Release "+tag, tag); err != nil {
			return err
		}
	}
	return nil
}

// unchanged returns an error if the repository is no longer at the commit that was staged, or has other changes.
func unchanged(ctx context.Context, repo git.Repo, base string) error {
	head, err := repo.Git(ctx, "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	dirty, err := repo.Git(ctx, "status", "--porcelain", "--untracked-files=all")
	if err != nil {
		return err
	}
	if head != base || dirty != "" {
		return errors.New("files or the branch have changed since the release was planned: start again")
	}
	return nil
}

func commit(ctx context.Context, repo git.Repo, p *plan.Plan, s *staged) error {
	for name, content := range s.files {
		if err := os.WriteFile(filepath.Join(repo.Dir, filepath.FromSlash(name)), content, 0o644); err != nil {
			return err
		}
	}
	args := append([]string{"add", "--"}, slices.Sorted(maps.Keys(s.files))...)
	if _, err := repo.Git(ctx, args...); err != nil {
		return err
	}
	if _, err := repo.Git(ctx, "commit", "--quiet", "--message", "Release "+p.Version); err != nil {
		return err
	}
	tree, err := repo.Git(ctx, "rev-parse", "HEAD^{tree}")
	if err != nil {
		return err
	}
	if tree != s.tree {
		return errors.New("what was committed is not what was built: a git hook, or another program, has changed files")
	}
	return nil
}

// undo deletes the tags and restores the branch and the files. It also deletes files that git does not ignore, such as a
// hook's: apply has begun without any.
func undo(ctx context.Context, repo git.Repo, p *plan.Plan, s *staged) error {
	errs := []error{deleteTags(ctx, repo, p, s)}
	for _, args := range [][]string{{"reset", "--quiet", "--hard", s.base}, {"clean", "--quiet", "--force", "-d"}} {
		_, err := repo.Git(ctx, args...)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("undoing the release: %w", err)
	}
	return nil
}

// deleteTags deletes those tags of the release that are on its commit. An interrupted git tag may have made one, too.
func deleteTags(ctx context.Context, repo git.Repo, p *plan.Plan, s *staged) error {
	head, err := repo.Git(ctx, "rev-parse", "HEAD")
	if err != nil || head == s.base {
		return err
	}
	tags, err := repo.Tags(ctx, "--points-at=HEAD")
	if err != nil {
		return err
	}
	var errs []error
	for _, tag := range tags {
		if slices.Contains(p.Tags, tag) {
			_, err := repo.Git(ctx, "tag", "--delete", tag)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
