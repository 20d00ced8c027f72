// Command release releases this repository's modules: release [-C DIR] VERSION. It updates the changelog and the versions
// that the modules require of each other, commits both, and tags the commit for every module that users fetch. It pushes
// nothing. If it fails, the files, the branch and the tags are as before.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/api"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/git"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/plan"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("release: ")
	dir := flag.String("C", ".", "the repository")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := release(ctx, *dir, strings.Join(flag.Args(), " "), os.Stdout); err != nil {
		stop()
		log.Fatal(err)
	}
}

func release(ctx context.Context, dir, version string, out io.Writer) error {
	repo := git.Repo{Dir: dir}
	p, err := makePlan(ctx, repo, version)
	if err != nil {
		return err
	}
	if err := checkAPI(ctx, repo, p, out); err != nil {
		return err
	}
	fmt.Fprintln(out, "Updating what the modules require of each other, and building them as users will fetch them.")
	staged, err := stage(ctx, repo, p)
	if err != nil {
		return err
	}
	if err := apply(ctx, repo, p, staged); err != nil {
		return err
	}
	return printNext(context.WithoutCancel(ctx), repo, p, out)
}

// makePlan plans the release of the repository as it is.
func makePlan(ctx context.Context, repo git.Repo, version string) (*plan.Plan, error) {
	state := plan.State{Files: make(map[string]string)}
	var err error
	if state.Dirty, err = repo.Lines(ctx, "status", "--porcelain", "--untracked-files=all"); err != nil {
		return nil, err
	}
	if state.Tags, err = repo.Tags(ctx); err != nil {
		return nil, err
	}
	if state.Branch, err = repo.Git(ctx, "branch", "--show-current"); err != nil {
		return nil, err
	}
	for _, name := range plan.Inputs() {
		text, err := repo.File(ctx, "HEAD", name)
		if err != nil {
			return nil, err
		}
		state.Files[name] = string(text)
	}
	return plan.New(state, version, time.Now())
}

// checkAPI returns an error if the version is too low for the changes in the API.
func checkAPI(ctx context.Context, repo git.Repo, p *plan.Plan, out io.Writer) error {
	if p.Base == "" {
		fmt.Fprintln(out, "This is the first release: there is no earlier API to compare with.")
		return nil
	}
	changes, err := api.Since(ctx, repo, p.Base)
	if err != nil {
		return fmt.Errorf("comparing the API with that of %s: %w", p.Base, err)
	}
	if err := plan.CheckAPI(p.Base, p.Version, changes); err != nil {
		return err
	}
	fmt.Fprintln(out, plan.Summary(p.Base, changes))
	return nil
}

// printNext prints the commands that publish the release, and those that undo it.
func printNext(ctx context.Context, repo git.Repo, p *plan.Plan, out io.Writer) error {
	commit, err := repo.Git(ctx, "rev-parse", "--short", "HEAD")
	if err != nil {
		return err
	}
	remote := "origin"
	if named, err := repo.Git(ctx, "config", "branch."+plan.Branch+".remote"); err == nil && named != "." {
		remote = named
	}
	_, err = fmt.Fprintf(out, "%s is commit %s, tagged %s. Nothing is pushed. To publish it, run in this order:\n\n  %s\n\nTo undo it before that:\n\n  %s\n",
		p.Version, commit, strings.Join(p.Tags, ", "), strings.Join(p.Push(remote), "\n  "), p.Takeback())
	return err
}
