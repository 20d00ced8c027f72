package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// inForce is the variable of the environment that has the id of the mutant in force.
const inForce = "MUTANT_IN_FORCE"

// weave writes all mutants to dir, for the go command to take in place of the files of the repository at root, and
// returns the overlay to tell it so. A mutated function has its other bodies beside its own, and the environment says
// which counts. So the tests of a package are built once for all mutants.
func weave(root, dir string, mutants []*mutant) (overlay string, err error) {
	files := make(map[string]*woven) // by name
	var errs []error
	for _, m := range mutants {
		mutated, err := m.apply(root)
		errs = append(errs, err)
		for name, text := range mutated {
			if files[name] == nil {
				if files[name], err = newWoven(root, name); err != nil {
					return "", err
				}
			}
			if err := files[name].add(m.id(), text); err != nil {
				errs = append(errs, fmt.Errorf("mutant %s, %s: %w", m.id(), name, err))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	texts := make(map[string]string)
	for name, w := range files {
		texts[name] = w.String()
		texts[filepath.Join(filepath.Dir(name), "mutant_in_force.go")] = fmt.Sprintf(
			"package %s\n\nimport \"os\"\n\nvar mutantInForce = os.Getenv(%q)\n", w.pkg, inForce)
	}
	return writeOverlay(root, dir, texts)
}

// writeOverlay writes files to dir, and a list of the files at root that they stand for.
func writeOverlay(root, dir string, texts map[string]string) (overlay string, err error) {
	replace := make(map[string]string)
	for name, text := range texts {
		to := filepath.Join(dir, strings.ReplaceAll(name, "/", "-"))
		replace[filepath.Join(root, name)] = to
		if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o644)
}

// woven is a file with what mutants change in it.
type woven struct {
	*source
	inserts map[int]string // by where in the text
}

func newWoven(root, name string) (*woven, error) {
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return nil, err
	}
	s, err := parse(filepath.Base(name), text)
	return &woven{s, make(map[int]string)}, err
}

// add adds what is different in a mutated text. What the compiler says of it names the mutant.
func (w *woven) add(id string, text []byte) error {
	mutated, err := parse(id, text)
	if err != nil {
		return err
	}
	for key, old := range w.parts {
		now, ok := mutated.parts[key]
		if !ok || now.head != old.head {
			return fmt.Errorf("%s is changed outside of a function's body and of a variable's value, or is gone", key)
		}
		delete(mutated.parts, key)
		if now.body == old.body {
			continue
		}
		other := fmt.Sprintf("if mutantInForce == %q {\n//line %s:%d\n%s\n%s}", id, id, now.line, now.body, old.leave)
		if old.variable {
			other = "\nfunc init() { " + other + " }\n"
		}
		w.inserts[old.at] += fmt.Sprintf("%s\n//line %s:%d\n", other, w.name, old.line)
	}
	for key, added := range mutated.parts {
		if !strings.HasPrefix(key, "func ") {
			return fmt.Errorf("%s is new, and no function", key)
		}
		w.inserts[len(w.text)] += "\n" + added.head + added.body + "}\n"
	}
	return nil
}

// String returns the file with all mutants in it.
func (w *woven) String() string {
	var b strings.Builder
	done := 0
	for _, at := range slices.Sorted(maps.Keys(w.inserts)) {
		b.WriteString(w.text[done:at] + w.inserts[at])
		done = at
	}
	return b.String() + w.text[done:]
}

// source is a file in parts.
type source struct {
	name, text, pkg string
	set             *token.FileSet
	parts           map[string]part
}

// part is a declaration: a function, a variable with a value, or something else, which a mutant leaves as it is.
type part struct {
	head     string // all but the body
	body     string // of a function, or the assignment of a variable's value
	leave    string // what a body needs at its end, to leave the function
	variable bool
	at, line int // where another body goes
}

func parse(name string, text []byte) (*source, error) {
	s := &source{name: name, text: string(text), set: token.NewFileSet(), parts: make(map[string]part)}
	file, err := parser.ParseFile(s.set, name, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	s.pkg = file.Name.Name
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			s.addFunc(d)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				s.addSpec(d, spec)
			}
		}
	}
	return s, nil
}

func (s *source) addFunc(d *ast.FuncDecl) {
	body := d.Body.Lbrace + 1
	p := part{head: s.between(d.Pos(), body), body: s.between(body, d.Body.Rbrace)}
	if d.Type.Results == nil {
		p.leave = "return\n"
	}
	s.add("func "+s.between(d.Pos()+token.Pos(len("func")), d.Name.End()), p, body)
}

func (s *source) addSpec(d *ast.GenDecl, spec ast.Spec) {
	p := part{head: s.between(spec.Pos(), spec.End())}
	if v, ok := spec.(*ast.ValueSpec); ok && d.Tok == token.VAR && v.Values != nil {
		value := v.Values[0].Pos()
		p.head = s.between(spec.Pos(), value)
		p.body = s.between(spec.Pos(), v.Names[len(v.Names)-1].End()) + " = " + s.between(value, spec.End())
		p.variable = true
	}
	s.add(d.Tok.String()+" "+strings.Fields(p.head)[0], p, d.End())
}

func (s *source) add(key string, p part, at token.Pos) {
	for s.parts[key].head != "" {
		key += " again" // as init may be
	}
	p.at, p.line = s.set.Position(at).Offset, s.set.Position(at).Line
	s.parts[key] = p
}

func (s *source) between(from, to token.Pos) string {
	return s.text[s.set.Position(from).Offset:s.set.Position(to).Offset]
}
