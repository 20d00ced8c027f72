// Command api prints how the exported API of the modules has changed from the last release to the last commit. It fails if no later version
// may have these changes.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"

	"golang.org/x/mod/module"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/api"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/git"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/plan"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("api: ")
	dir := flag.String("C", ".", "the repository")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := compare(ctx, git.Repo{Dir: *dir}); err != nil {
		stop()
		log.Fatal(err)
	}
}

func compare(ctx context.Context, repo git.Repo) error {
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
	base := plan.Base(tags)
	if base == "" {
		fmt.Println("There is no release yet: nothing to compare the API with.")
		return nil
	}
	changes, err := api.Since(ctx, repo, base)
	if err != nil {
		return err
	}
	fmt.Println(plan.Summary(base, changes))
	if next := plan.Lowest(base, changes); module.CheckPathMajor(next, "") != nil {
		return fmt.Errorf("these changes need %s, which does not fit the module path: take back those that are not compatible", next)
	}
	return nil
}
