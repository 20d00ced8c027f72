package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// inForce is the environment variable that holds the id of the mutant in force.
const inForce = "MUTANT_IN_FORCE"

// helper is the text of a file that weave adds to each mutated package.
const helper = `package %s

import "os"

var mutantInForce = os.Getenv(%q)

func mutantZero[T any](T) (zero T) { return }
`

// weave builds mutants into the code at root. The environment variable inForce
// selects one of them. A mutated function begins with the bodies of its
// mutants, so the tests of a package are built once for all mutants. weave
// writes the files to dir, and returns the overlay for the go command. A mutant
// that does not fit or does not compile gets an error and is left out.
func weave(
	ctx context.Context,
	root, dir string,
	mutants []*mutant,
) (overlay string, err error) {
	for {
		t := &tree{root, token.NewFileSet(), map[string][]*source{}}
		for _, m := range mutants {
			if m.err == nil {
				m.err = t.add(m)
			}
		}

		overlay, err = t.write(dir)
		if err != nil {
			return "", err
		}

		args := []string{"build", "-overlay=" + overlay}
		for pkg := range t.packages {
			args = append(args, "./"+pkg)
		}

		build := exec.CommandContext(ctx, "go", args...)
		build.Dir = root

		out, err := build.CombinedOutput()
		if err == nil {
			return overlay, nil
		}

		if !blame(mutants, string(out)) {
			return "", fmt.Errorf("build the mutated code: %w\n%s", err, out)
		}
	}
}

// blame sets the error of mutants that do not compile, and reports whether
// there are any.
func blame(mutants []*mutant, out string) (any bool) {
	for _, m := range mutants {
		line := regexp.MustCompile(`(?m)(^|/)` + regexp.QuoteMeta(m.id) + `:\d.*$`)
		said := line.FindString(out)

		if said != "" {
			any = true
			m.err = cmp.Or(m.err, fmt.Errorf("it does not compile: %s", said))
		}
	}

	return any
}

// tree holds the packages that mutants change, by directory, without tests.
type tree struct {
	root     string
	set      *token.FileSet
	packages map[string][]*source
}

// source is a file of Go code.
type source struct {
	path, text string // the path is relative to the root
	file       *ast.File
	inserts    map[int]string // texts that mutants add, by offset
}

// function is a function or a method.
type function struct {
	*source
	*ast.FuncDecl
}

// change replaces a part of a file by a text.
type change struct {
	span
	text string
}

// add adds a mutant to the code.
func (t *tree) add(m *mutant) error {
	changes := map[function][]change{}
	for _, e := range m.edits {
		f, err := t.find(e.dir, e.function)
		if err != nil {
			return err
		}

		c, err := t.change(f, e)
		if err != nil {
			return err
		}

		changes[f] = append(changes[f], c)
	}

	for f, changes := range changes {
		if err := t.insert(m.id, f, changes); err != nil {
			return err
		}
	}

	return nil
}

// find returns the function with a name in a package.
func (t *tree) find(dir, name string) (f function, err error) {
	if t.packages[dir] == nil {
		if err := t.load(dir); err != nil {
			return f, err
		}
	}

	n := 0
	for _, s := range t.packages[dir] {
		for _, d := range s.file.Decls {
			d, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}

			full := d.Name.Name
			if d.Recv != nil {
				recv := types.ExprString(d.Recv.List[0].Type)
				recv, _, _ = strings.Cut(strings.TrimPrefix(recv, "*"), "[")
				full = recv + "." + full
			}

			if full == name {
				f = function{s, d}
				n++
			}
		}
	}

	if n != 1 {
		return f, fmt.Errorf("%s has %d functions %s, want one", dir, n, name)
	}

	return f, nil
}

// load reads the package in a directory.
func (t *tree) load(dir string) error {
	names, err := filepath.Glob(filepath.Join(t.root, dir, "*.go"))
	if err != nil {
		return err
	}

	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}

		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}

		file, err := parser.ParseFile(t.set, name, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}

		t.packages[dir] = append(t.packages[dir], &source{
			path:    filepath.Join(dir, filepath.Base(name)),
			text:    string(text),
			file:    file,
			inserts: map[int]string{},
		})
	}

	return nil
}

// values holds, by operation, the text that replaces a value. $ stands for the
// value. The code still compiles, because the text uses all names in the value.
var values = map[string]string{
	"never":  "false && ($)",
	"always": "true || ($)",
	"not":    "!($)",
	"zero":   "mutantZero($)",
}

// change returns what an edit changes in a function.
func (t *tree) change(f function, e edit) (change, error) {
	found := find(f.Body, e.kind, e.words)
	if len(found) != 1 {
		return change{}, fmt.Errorf("%s has %d places %q, want one", e.function,
			len(found), strings.Join(append([]string{e.kind}, e.words...), " "))
	}

	p := found[0]
	c := change{p.span(), e.to}

	switch {
	case e.op == "drop":
		c = change{p.whole, p.instead}
	case e.op != "change" && len(p.values) == 1:
		c.text = values[e.op]
	case e.op != "change":
		c.span = span{}
	}

	if c.span == (span{}) {
		return c, fmt.Errorf("%s of %s is not possible, use change", e.op, e.kind)
	}

	c.text = strings.ReplaceAll(c.text, "$", t.textOf(f, c.span))

	return c, nil
}

func (t *tree) textOf(f function, s span) string {
	return f.text[t.set.Position(s.from).Offset:t.set.Position(s.to).Offset]
}

// insert adds a changed body to a function. Compiler errors in that body name
// the mutant.
func (t *tree) insert(id string, f function, changes []change) error {
	slices.SortFunc(changes, func(a, b change) int { return int(a.from - b.from) })

	body := ""
	from := f.Body.Lbrace
	for _, c := range changes {
		if c.from < from {
			return errors.New("two changes of the mutant overlap")
		}

		body += t.textOf(f, span{from, c.from}) + c.text
		from = c.to
	}

	body += t.textOf(f, span{from, f.Body.End()})

	_, err := parser.ParseFile(token.NewFileSet(), "", "package p; func f() "+body,
		parser.SkipObjectResolution)
	if err != nil {
		return err
	}

	if f.Type.Results == nil {
		body += "\nreturn"
	}

	at := t.set.Position(f.Body.Lbrace)
	f.inserts[at.Offset+1] += fmt.Sprintf(
		"if mutantInForce == %q {\n//line %s:%d\n%s\n}\n//line %s:%d\n", id, id, at.Line,
		body, filepath.Base(f.path), at.Line)

	return nil
}

// write writes the files with all mutants to dir, and the overlay, which lists
// the files that they replace.
func (t *tree) write(dir string) (overlay string, err error) {
	replace := map[string]string{}
	add := func(path, text string) {
		to := filepath.Join(dir, strings.ReplaceAll(path, "/", "-"))
		replace[filepath.Join(t.root, path)] = to
		err = cmp.Or(err, os.WriteFile(to, []byte(text), 0o644))
	}

	for dir, files := range t.packages {
		add(filepath.Join(dir, "mutant_in_force.go"),
			fmt.Sprintf(helper, files[0].file.Name.Name, inForce))

		for _, s := range files {
			text := ""
			done := 0
			for _, at := range slices.Sorted(maps.Keys(s.inserts)) {
				text += s.text[done:at] + s.inserts[at]
				done = at
			}

			add(s.path, text+s.text[done:])
		}
	}

	// Marshal of strings never fails
	list, _ := json.Marshal(map[string]any{"Replace": replace})
	overlay = filepath.Join(dir, "overlay.json")

	return overlay, cmp.Or(err, os.WriteFile(overlay, list, 0o644))
}
