// Command tidy tidies modules as go mod tidy does: tidy [-diff] DIR... With -diff it changes nothing, prints what it would
// change, and fails if there is anything. Unlike go mod tidy, it uses the replacements in a module's go.work.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/workspace"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("tidy: ")
	diff := flag.Bool("diff", false, "show what would change instead of changing it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var errs []error
	for _, dir := range flag.Args() {
		if err := tidy(ctx, dir, *diff); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", dir, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		stop()
		log.Fatal(err)
	}
}

func tidy(ctx context.Context, dir string, diff bool) error {
	files, err := workspace.Tidy(ctx, dir)
	if err != nil {
		return err
	}
	for name, text := range files {
		name = filepath.Join(dir, name)
		was, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if bytes.Equal(was, text) {
			continue
		}
		if diff {
			return errors.Join(show(ctx, name, text), fmt.Errorf("%s is not tidy: run make tidy", name))
		}
		if err := os.WriteFile(name, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// show prints how a text differs from a file.
func show(ctx context.Context, file string, text []byte) error {
	cmd := exec.CommandContext(ctx, "git", "diff", "--no-index", "--", file, "-")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(text), os.Stdout, os.Stderr
	if exit := new(exec.ExitError); errors.As(cmd.Run(), &exit) && exit.ExitCode() == 1 {
		return nil // they differ
	}
	return errors.New("git diff failed")
}
