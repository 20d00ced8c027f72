// Package plan decides what a release changes, and whether there may be one. It reads and writes nothing.
package plan

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"golang.org/x/mod/modfile"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
)

// Branch is the one that releases are made from.
const Branch = "main"

// State is what a release is made from.
type State struct {
	Branch string            // "" if no branch is checked out
	Dirty  []string          // what differs from the commit, as git status has it
	Tags   []string          // all tags
	Files  map[string]string // Changelog, and go.mod of each of the modules
}

// A Plan is a release to be.
type Plan struct {
	Version string
	Base    string            // the version whose API is compared, "" if this is the first
	Tags    []string          // those to make, the root's last
	Files   map[string]string // those to change, less what go mod tidy adds
	Pinned  []modules.Module  // the ones whose requirements of others change
}

// New returns the plan of a version, or an error that names everything that is in its way.
func New(state State, version string, now time.Time) (*Plan, error) {
	errs := []error{checkVersion(version), checkTree(state)}
	if errs[0] == nil {
		errs = append(errs, checkTags(version, state.Tags))
	}
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

// pin has a module require the version of the other modules of this repository that it requires.
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
// asks for the others.
func (p *Plan) Push(remote string) []string {
	nested := p.Tags[:len(p.Tags)-1]
	return []string{
		"git push --atomic " + remote + " " + Branch + " " + strings.Join(nested, " "),
		"git push " + remote + " " + p.Version,
	}
}

// Takeback returns the command that undoes the release while nothing is pushed.
func (p *Plan) Takeback() string {
	return "git tag -d " + strings.Join(p.Tags, " ") + " && git reset --keep HEAD^"
}

// Inputs are the files that a State has.
func Inputs() []string {
	files := []string{Changelog}
	for _, m := range modules.All {
		files = append(files, path.Clean(m.File("go.mod")))
	}
	return files
}
