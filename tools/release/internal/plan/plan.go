// Package plan decides whether a release can be made, and what it changes. It does no I/O.
package plan

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/modfile"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
)

// Branch is the branch that releases are made from.
const Branch = "main"

// State is the state of the repository that a release is made from.
type State struct {
	Branch string            // "" if no branch is checked out
	Dirty  []string          // what differs from the commit, as git status prints it
	Tags   []string          // all tags
	Files  map[string]string // the Inputs
}

// A Plan describes a release.
type Plan struct {
	Version string
	Base    string            // the version to compare the API with, "" for the first release
	Tags    []string          // to be made, the root module's last
	Files   map[string]string // to be changed, before go mod tidy
	Pinned  []modules.Module  // those that require others, which go mod tidy completes
}

// New returns the plan for releasing version, or an error that names every obstacle.
func New(state State, version string, now time.Time) (*Plan, error) {
	errs := []error{checkVersion(version), checkTree(state)}
	if errs[0] == nil {
		errs = append(errs, checkTags(version, state.Tags))
	}
	errs = append(errs, CheckFetched(state.Files[Changelog], state.Tags))
	p := &Plan{Version: version, Base: Base(state.Tags), Files: make(map[string]string)}
	rolled, err := roll(state.Files[Changelog], version, now.UTC().Format(time.DateOnly))
	errs = append(errs, err)
	p.Files[Changelog] = rolled
	for _, m := range modules.All {
		errs = append(errs, p.pin(m, state.Files[m.File("go.mod")]))
		if m.Dir != "." {
			p.Tags = append(p.Tags, m.Tag(version))
		}
	}
	p.Tags = append(p.Tags, version)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

func checkTree(state State) error {
	var errs []error
	switch state.Branch {
	case Branch:
	case "":
		errs = append(errs, fmt.Errorf("no branch is checked out: releases are made from %s", Branch))
	default:
		errs = append(errs, fmt.Errorf("the branch is %s: releases are made from %s", state.Branch, Branch))
	}
	if len(state.Dirty) > 0 {
		errs = append(errs, fmt.Errorf("the tree has changes that are not committed:\n%s", strings.Join(state.Dirty, "\n")))
	}
	return errors.Join(errs...)
}

// pin updates what a module requires of the other modules of this repository to the version.
func (p *Plan) pin(m modules.Module, text string) error {
	name := m.File("go.mod")
	file, err := modfile.Parse(name, []byte(text), nil)
	if err != nil {
		return err
	}
	if len(file.Replace) > 0 {
		return fmt.Errorf("%s has a replace directive, with which go install refuses the module: move it to go.work beside it", name)
	}
	own := ownRequirements(file)
	for _, path := range own {
		if err := file.AddRequire(path, p.Version); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(own) == 0 {
		return nil
	}
	formatted, err := file.Format()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	p.Files[name] = string(formatted)
	p.Pinned = append(p.Pinned, m)
	return nil
}

// ownRequirements returns the paths of the modules of this repository that go.mod requires.
func ownRequirements(file *modfile.File) (paths []string) {
	for _, r := range file.Require {
		if r.Mod.Path == modules.Root || strings.HasPrefix(r.Mod.Path, modules.Root+"/") {
			paths = append(paths, r.Mod.Path)
		}
	}
	return paths
}

// Push returns the commands that publish the release. The tag of the root comes last: it starts the workflow, which
// reads the others.
func (p *Plan) Push(remote string) []string {
	refs := make([]string, len(p.Tags)) // in full, since a branch may have the name of a tag
	for i, tag := range p.Tags {
		refs[i] = "refs/tags/" + tag
	}
	last := len(refs) - 1
	return []string{
		"git push --atomic " + remote + " " + Branch + " " + strings.Join(refs[:last], " "),
		"git push " + remote + " " + refs[last],
	}
}

// Takeback returns the command that undoes the release while nothing is pushed.
func (p *Plan) Takeback() string {
	return "git tag -d " + strings.Join(p.Tags, " ") + " && git reset --keep HEAD^"
}

// Inputs returns the paths of the files that New reads: the changelog, and the go.mod of each module.
func Inputs() []string {
	files := []string{Changelog}
	for _, m := range modules.All {
		files = append(files, m.File("go.mod"))
	}
	return files
}
