// Package api compares the exported API of this repository's modules in two checkouts.
package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/exp/apidiff"
	"golang.org/x/tools/go/packages"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/git"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/plan"
)

// Since returns the changes in the API from a version that is tagged to the last commit. Files that are not committed are no
// part of a release.
func Since(ctx context.Context, repo git.Repo, version string) ([]plan.Change, error) {
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	before, after := filepath.Join(dir, "before"), filepath.Join(dir, "after")
	for checkout, revision := range map[string]string{before: "refs/tags/" + version, after: "HEAD"} {
		if err := repo.Checkout(ctx, checkout, revision); err != nil {
			return nil, err
		}
	}
	return Compare(ctx, before, after)
}

// Compare returns the changes of all modules from one checkout to another.
func Compare(ctx context.Context, before, after string) (changes []plan.Change, err error) {
	for _, m := range modules.All {
		if m.Program {
			continue
		}
		older, err := load(ctx, before, m)
		if err != nil {
			return nil, fmt.Errorf("the older %s: %w", m.Path(), err)
		}
		newer, err := load(ctx, after, m)
		if err != nil {
			return nil, fmt.Errorf("the newer %s: %w", m.Path(), err)
		}
		for _, c := range apidiff.ModuleChanges(older, newer).Changes {
			changes = append(changes, plan.Change{Text: name(m, c.Message), Compatible: c.Compatible})
		}
	}
	slices.SortFunc(changes, func(a, b plan.Change) int { return cmp.Compare(a.Text, b.Text) })
	return changes, nil
}

// name returns a message of apidiff with the full path of its package.
func name(m modules.Module, message string) string {
	if below, ok := strings.CutPrefix(message, "./"); ok {
		return m.Path() + "/" + below
	}
	return m.Path() + ": " + message
}

// load returns the packages that a module exports. There are none if the checkout lacks the module.
func load(ctx context.Context, root string, m modules.Module) (*apidiff.Module, error) {
	exported := &apidiff.Module{Path: m.Path()}
	dir := filepath.Join(root, filepath.FromSlash(m.Dir))
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); errors.Is(err, fs.ErrNotExist) {
		return exported, nil
	}
	loaded, err := packages.Load(&packages.Config{
		Context: ctx,
		Mode:    packages.NeedName | packages.NeedTypes | packages.NeedImports | packages.NeedExportFile,
		Dir:     dir,
		Env:     append(os.Environ(), "GOWORK=off"),
	}, "./...")
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, p := range loaded {
		if p.Name == "main" || internal(strings.TrimPrefix(p.PkgPath, m.Path())) {
			continue
		}
		for _, err := range p.Errors {
			errs = append(errs, err)
		}
		if p.Types == nil || !p.Types.Complete() {
			errs = append(errs, fmt.Errorf("the types of %s cannot be read", p.PkgPath))
		}
		exported.Packages = append(exported.Packages, p.Types)
	}
	return exported, errors.Join(errs...)
}

// internal reports whether other modules cannot import the package of a path.
func internal(path string) bool { return slices.Contains(strings.Split(path, "/"), "internal") }
