package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/command"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/git"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/plan"
)

// compare prints how the API has changed since the last release. It fails if no version may have these changes.
func compare(ctx context.Context, repo git.Repo, out io.Writer) error {
	tags, err := repo.Tags(ctx)
	if err != nil {
		return err
	}
	changelog, err := repo.File(ctx, "HEAD", plan.Changelog)
	if err != nil {
		return err
	}
	if err := plan.CheckFetched(string(changelog), tags); err != nil {
		return err
	}
	temp, err := tempDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	return checkAPI(ctx, repo, temp, plan.Base(tags), "", out)
}

// suggestion is what gorelease prints if a version may have the changes.
var suggestion = regexp.MustCompile(`(?m)^Suggested version: (v\S+)`)

// checkAPI has gorelease compare each module, as committed, with the version base. It returns an error if version is lower than
// what gorelease suggests for the changes, or no version may have them. A version "" is not compared.
func checkAPI(ctx context.Context, repo git.Repo, temp, base, version string, out io.Writer) error {
	if base == "" {
		fmt.Fprintln(out, "There is no release yet: nothing to compare the API with.")
		return nil
	}
	tool, err := command.Run(ctx, ".", []string{"GOWORK=off"}, "go", "tool", "-n", "gorelease")
	if err != nil {
		return err
	}
	clone, err := repo.Clone(ctx, filepath.Join(temp, "api"))
	if err != nil {
		return err
	}
	tags, err := dropCandidates(ctx, clone)
	if err != nil {
		return err
	}
	env, err := clone.Env(ctx, filepath.Join(temp, "api-modcache"))
	if err != nil {
		return err
	}
	for _, m := range modules.All {
		if !m.Alone || !slices.Contains(tags, m.Tag(base)) {
			continue
		}
		report, err := command.Run(ctx, filepath.Join(clone.Dir, m.Dir), env, strings.TrimSpace(string(tool)), "-base="+base)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s\n%s", m.Path(), report)
		lowest := suggestion.FindSubmatch(report)
		if lowest == nil {
			return fmt.Errorf("gorelease suggests no version for %s", m.Path())
		}
		if core := strings.TrimSuffix(version, semver.Prerelease(version)); version != "" && semver.Compare(core, string(lowest[1])) < 0 {
			return fmt.Errorf("with what has changed in %s since %s, %s would have to be %s or later:\n%s", m.Path(), base, version, lowest[1], report)
		}
	}
	return nil
}

// dropCandidates deletes the tags of pre-releases from a clone, beside which gorelease suggests no version, and returns the others.
func dropCandidates(ctx context.Context, clone git.Repo) ([]string, error) {
	tags, err := clone.Tags(ctx)
	if err != nil {
		return nil, err
	}
	var kept []string
	for _, tag := range tags {
		if semver.Prerelease(path.Base(tag)) == "" {
			kept = append(kept, tag)
		} else if _, err := clone.Git(ctx, "update-ref", "-d", "refs/tags/"+tag); err != nil {
			return nil, err
		}
	}
	return kept, nil
}
