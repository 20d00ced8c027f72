package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// inForce is the variable of the environment that has the id of the mutant in force.
const inForce = "MUTANT_IN_FORCE"

// weave writes all mutants to dir, for the go command to take in place of the files of the repository at root, and
// returns the overlay to tell it so. Each mutated function has its other bodies beside its own, and the environment
// says which counts. So the tests of a package are built once for all mutants.
func weave(root, dir string, mutants []*mutant) (overlay string, err error) {
	files := make(map[string]*woven)
	replace := make(map[string]string)
	for _, m := range mutants {
		mutated, err := m.apply(root)
		if err != nil {
			return "", err
		}
		for name, text := range mutated {
			if files[name] == nil {
				if files[name], err = newWoven(root, name); err != nil {
					return "", err
				}
			}
			if err := files[name].add(m.id(), text); err != nil {
				return "", fmt.Errorf("mutant %s, %s: %w", m.id(), name, err)
			}
		}
	}
	write := func(name, text string) error {
		to := filepath.Join(dir, strings.ReplaceAll(name, "/", "-"))
		replace[filepath.Join(root, name)] = to
		return os.WriteFile(to, []byte(text), 0o644)
	}
	for name, w := range files {
		err := write(name, w.String())
		if err == nil {
			err = write(filepath.Join(filepath.Dir(name), "mutant_in_force.go"), fmt.Sprintf(
				"package %s\n\nimport \"os\"\n\nvar mutantInForce = os.Getenv(%q)\n", w.pkg, inForce))
		}
		if err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o644)
}

// woven is a file with what mutants change in it.
type woven struct {
	source
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

// add adds what is different in a mutated text.
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
		when := fmt.Sprintf("if mutantInForce == %q {\n//line %s:%d\n%s\n%s}", id, id, now.line, now.body, old.leave)
		if old.variable {
			when = "\nfunc init() { " + when + " }\n"
		}
		w.inserts[old.at] += fmt.Sprintf("%s\n//line %s:%d\n", when, w.name, old.line)
	}
	for key, new := range mutated.parts {
		if new.variable || !strings.HasPrefix(key, "func ") {
			return fmt.Errorf("%s is new, and no function", key)
		}
		w.inserts[len(w.text)] += "\n" + new.head + new.body + "}\n"
	}
	return nil
}

// String returns the file with all mutants in it.
func (w *woven) String() string {
	var b strings.Builder
	for i := range len(w.text) + 1 {
		b.WriteString(w.inserts[i])
		if i < len(w.text) {
			b.WriteByte(w.text[i])
		}
	}
	return b.String()
}

// source is a file in parts.
type source struct {
	name, text, pkg string
	parts           map[string]part
}

// part is a declaration: a function, a variable with a value, or something else that a mutant leaves as it is.
type part struct {
	head     string // all but the body
	body     string // of a function, or the assignment of a variable's value
	leave    string // what ends the body, where it does not end itself
	variable bool
	at, line int // where another body goes
}

func parse(name string, text []byte) (source, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution)
	if err != nil {
		return source{}, err
	}
	s := source{name, string(text), file.Name.Name, make(map[string]part)}
	at := func(p token.Pos) int { return set.Position(p).Offset }
	between := func(from, to token.Pos) string { return s.text[at(from):at(to)] }
	add := func(key string, p part, where token.Pos) {
		for s.parts[key].head != "" {
			key += " again" // as init may be
		}
		p.at, p.line = at(where), set.Position(where).Line
		s.parts[key] = p
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			p := part{head: between(d.Pos(), d.End())}
			where := d.End()
			if d.Body != nil {
				where = d.Body.Lbrace + 1
				p.head, p.body = between(d.Pos(), where), between(where, d.Body.Rbrace)
				if d.Type.Results == nil {
					p.leave = "return\n"
				}
			}
			key := "func " + d.Name.Name
			if d.Recv != nil {
				key = "func " + between(d.Recv.Pos(), d.Recv.End()) + d.Name.Name
			}
			add(key, p, where)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				p := part{head: between(spec.Pos(), spec.End())}
				if v, ok := spec.(*ast.ValueSpec); ok && d.Tok == token.VAR && v.Values != nil {
					first := v.Values[0].Pos()
					names := between(v.Names[0].Pos(), v.Names[len(v.Names)-1].End())
					p = part{head: between(spec.Pos(), first), body: names + " = " + between(first, spec.End()), variable: true}
				}
				add(fmt.Sprintf("%v %s", d.Tok, firstWord(between(spec.Pos(), spec.End()))), p, d.End())
			}
		}
	}
	return s, nil
}

func firstWord(text string) string { return strings.Fields(text)[0] }
