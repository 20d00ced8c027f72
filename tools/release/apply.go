package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/git"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/plan"
)

// apply commits the files of a clone in the user's name and with the user's signature, tags the commit, and then moves the branch.
// The tags are annotated: they name who made the release and when, and git describe finds no others.
func apply(ctx context.Context, repo git.Repo, p *plan.Plan, clone git.Repo) (err error) {
	commit, err := copyCommit(ctx, repo, p, clone)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, deleteTags(context.WithoutCancel(ctx), repo, commit))
		}
	}()
	for _, tag := range p.Tags {
		if _, err := repo.Git(ctx, "tag", "--annotate", "--message", "Release "+tag, tag, commit); err != nil {
			return err
		}
	}
	_, err = repo.Git(ctx, "-c", "core.hooksPath=/dev/null", "merge", "--quiet", "--ff-only", commit)
	if err != nil {
		return fmt.Errorf("files or the branch have changed since the release was planned: %w", err)
	}
	return nil
}

// copyCommit makes a commit of the clone's files, which follows the one that was cloned, and returns its hash.
func copyCommit(ctx context.Context, repo git.Repo, p *plan.Plan, clone git.Repo) (string, error) {
	base, err := clone.Git(ctx, "rev-parse", "refs/remotes/origin/"+plan.Branch)
	if err != nil {
		return "", err
	}
	tree, err := clone.Git(ctx, "rev-parse", "HEAD^{tree}")
	if err != nil {
		return "", err
	}
	if _, err := repo.Git(ctx, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", clone.Dir, "HEAD"); err != nil {
		return "", err
	}
	args := []string{"commit-tree", "-p", base, "-m", "Release " + p.Version, tree}
	if sign, err := repo.Git(ctx, "config", "--type=bool", "commit.gpgSign"); err == nil && sign == "true" {
		args = append(args, "-S")
	}
	return repo.Git(ctx, args...)
}

// deleteTags deletes the tags of a commit. An interrupted git tag may have made one, too.
func deleteTags(ctx context.Context, repo git.Repo, commit string) error {
	tags, err := repo.Tags(ctx, "--points-at="+commit)
	for _, tag := range tags {
		_, failed := repo.Git(ctx, "update-ref", "-d", "refs/tags/"+tag)
		err = errors.Join(err, failed)
	}
	return err
}
