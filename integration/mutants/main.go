// Command mutants shows that fault tests fail when what they test is taken out. Each *.patch beside
// this file takes one protection out of the runtime, and begins with a line that names the test which
// must then fail:
//
//	Test: ./discovery TestD4_RevisionPassed
//
// It works on a copy of the tree. It exits with 1 where a test passes with the patch, or fails without
// it. To add a mutant, save the output of git diff under a line like that one.
package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

//go:embed *.patch
var patches embed.FS

// mutant is a patch and the test that it must break.
type mutant struct {
	name      string
	patch     []byte
	pkg, test string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	mutants, err := load()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := copyTree(ctx, dir); err != nil {
		return err
	}
	var errs []error
	for _, m := range mutants {
		errs = append(errs, m.try(ctx, dir))
	}
	return errors.Join(errs...)
}

func load() ([]mutant, error) {
	names, err := fs.Glob(patches, "*.patch")
	if err != nil {
		return nil, err
	}
	var mutants []mutant
	for _, name := range names {
		patch, err := patches.ReadFile(name)
		if err != nil {
			return nil, err
		}
		first, _, _ := bytes.Cut(patch, []byte("\n"))
		fields := strings.Fields(string(first))
		if len(fields) != 3 || fields[0] != "Test:" {
			return nil, fmt.Errorf("%s does not begin with a line such as %q", name, "Test: ./discovery TestD4_RevisionPassed")
		}
		mutants = append(mutants, mutant{strings.TrimSuffix(name, ".patch"), patch, fields[1], fields[2]})
	}
	return mutants, nil
}

// copyTree copies the repository, as it is on disk, to dir.
func copyTree(ctx context.Context, dir string) error {
	root, err := output(ctx, ".", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	root = strings.TrimSpace(root)
	files, err := output(ctx, root, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(files, "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and that not committed yet
		}
		if err != nil {
			return err
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// try runs the test without the patch and with it.
func (m mutant) try(ctx context.Context, dir string) error {
	if passed, out, err := m.runTest(ctx, dir); err != nil || !passed {
		return fmt.Errorf("%s: %s does not pass without the patch: %w\n%s", m.name, m.test, err, out)
	}
	patch := filepath.Join(dir, m.name+".patch")
	if err := os.WriteFile(patch, m.patch, 0o644); err != nil {
		return err
	}
	if _, err := output(ctx, dir, "git", "apply", patch); err != nil {
		return fmt.Errorf("%s: the patch does not fit the code any more: %w", m.name, err)
	}
	began := time.Now()
	passed, out, err := m.runTest(ctx, dir)
	if err == nil && passed {
		err = fmt.Errorf("%s: %s passes with the patch", m.name, m.test)
	}
	if err == nil {
		fmt.Printf("%-20s %s fails without its protection, after %v:\n%s\n", m.name, m.test, time.Since(began).Round(time.Second), complaint(out))
	}
	if _, back := output(ctx, dir, "git", "apply", "--reverse", patch); back != nil {
		return errors.Join(err, back)
	}
	return err
}

// runTest reports whether the test passed. What is neither passed nor failed is an error.
func (m mutant) runTest(ctx context.Context, dir string) (passed bool, out string, err error) {
	out, err = output(ctx, filepath.Join(dir, "integration"), "go", "test", "-count=1", "-timeout=3m", "-v", "-run=^"+m.test+"$", m.pkg)
	switch {
	case strings.Contains(out, "--- FAIL: "+m.test+" "):
		return false, out, nil
	case err == nil && strings.Contains(out, "--- PASS: "+m.test+" "):
		return true, out, nil
	}
	return false, out, fmt.Errorf("%s: %s did not run: %w", m.name, m.test, err)
}

// complaint is what a failed test said first that is not a figure.
func complaint(out string) string {
	for line := range strings.Lines(out) {
		if strings.Contains(line, "_test.go:") && !strings.Contains(line, ": D") && !strings.Contains(line, ": G") && !strings.Contains(line, ": R") {
			return "    " + strings.TrimSpace(line)
		}
	}
	return ""
}

// output runs a command in dir. Its error has what the command printed.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
