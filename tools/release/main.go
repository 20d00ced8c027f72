// Command release releases this repository's modules: release [-C DIR] VERSION. It updates the changelog and the versions
// that the modules require of each other, commits both, and tags the commit for every module that users fetch. It pushes
// nothing. If it fails, the files, the branch and the tags are as before. With -api it compares the exported API of the last
// commit with that of the last release instead.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/git"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/plan"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("release: ")
	dir := flag.String("C", ".", "the repository")
	api := flag.Bool("api", false, "compare the API with that of the last release, and release nothing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *api {
		err = compare(ctx, git.Repo{Dir: *dir}, os.Stdout)
	} else {
		err = release(ctx, git.Repo{Dir: *dir}, strings.Join(flag.Args(), " "), os.Stdout)
	}
	if err != nil {
		stop()
		log.Fatal(err)
	}
}

func release(ctx context.Context, repo git.Repo, version string, out io.Writer) error {
	p, err := makePlan(ctx, repo, version)
	if err != nil {
		return err
	}
	temp, err := tempDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if err := checkAPI(ctx, repo, temp, p.Base, version, out); err != nil {
		return err
	}
	fmt.Fprintln(out, "Updating what the modules require of each other, and building them as users will fetch them.")
	staged, err := stage(ctx, repo, p, temp)
	if err != nil {
		return err
	}
	if err := apply(ctx, repo, p, staged); err != nil {
		return err
	}
	return printNext(context.WithoutCancel(ctx), repo, p, out)
}

// tempDir makes a directory, and returns its path as git prints it.
func tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "release")
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
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
