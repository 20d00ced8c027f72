package main

import (
	"go/ast"
	"go/token"
	"slices"
)

// place is a part of a function that an edit can change.
type place struct {
	kind string
	head ast.Node // the code in which the words of the edit are looked up

	// the expressions that the edit changes: a condition, the results of a
	// return, …
	values []ast.Expr

	whole   span   // the part that drop removes; zero if drop is not possible
	instead string // what drop puts in its place; $ stands for the old text
}

// span is a part of a file.
type span struct{ from, to token.Pos }

// Texts that the operation drop puts in place of the old text. $ stands for the
// old text. The code still compiles, because the texts use all names of the old
// text.
const (
	skipped = "if false { $ }"
	isTrue  = "(true || ($))"
	isFalse = "(false && ($))"
)

// placesAt returns the places of a node.
func placesAt(n ast.Node) []place {
	switch n := n.(type) {
	case *ast.IfStmt:
		head := &ast.IfStmt{Init: n.Init, Cond: n.Cond, Body: &ast.BlockStmt{}}
		return []place{{kind: "if", head: head, values: []ast.Expr{n.Cond}}}
	case *ast.RangeStmt:
		return []place{{kind: "for", head: n.X, values: []ast.Expr{n.X}}}

	case *ast.CaseClause:
		if n.List == nil {
			return []place{{kind: "default", head: n, whole: spanOf(n)}}
		}

		return []place{{
			kind:   "case",
			head:   &ast.ReturnStmt{Results: n.List},
			values: n.List,
			whole:  spanOf(n),
		}}

	case *ast.ReturnStmt:
		if n.Results != nil {
			return []place{{kind: "return", head: n, values: n.Results}}
		}

	case *ast.AssignStmt:
		return []place{{
			kind:    "set",
			head:    n,
			values:  n.Rhs,
			whole:   spanOf(n),
			instead: skipped,
		}}

	case *ast.IncDecStmt:
		return []place{{kind: "set", head: n, whole: spanOf(n), instead: skipped}}

	case *ast.ExprStmt:
		return []place{{
			kind:    "call",
			head:    n,
			values:  []ast.Expr{n.X},
			whole:   spanOf(n),
			instead: skipped,
		}}

	case *ast.BinaryExpr:
		return termsOf(n)
	case *ast.CompositeLit:
		return listed("field", n.Elts)
	case *ast.CallExpr:
		return append(listed("arg", n.Args),
			place{kind: "call", head: n, values: []ast.Expr{n}})
	}

	return nil
}

// termsOf returns the operands of && and ||. A dropped operand of && becomes
// true, a dropped operand of || false.
func termsOf(n *ast.BinaryExpr) (all []place) {
	instead := map[token.Token]string{token.LAND: isTrue, token.LOR: isFalse}[n.Op]
	if instead == "" {
		return nil
	}

	for _, x := range []ast.Expr{n.X, n.Y} {
		all = append(all, place{
			kind:    "term",
			head:    x,
			values:  []ast.Expr{x},
			whole:   spanOf(x),
			instead: instead,
		})
	}

	return all
}

// listed returns the elements of a literal or the arguments of a call. The
// operation drop also removes the comma.
func listed(kind string, list []ast.Expr) (all []place) {
	for i, x := range list {
		p := place{kind: kind, head: x, values: []ast.Expr{x}, whole: spanOf(x)}
		if field, ok := x.(*ast.KeyValueExpr); ok {
			p.values = []ast.Expr{field.Value}
		}

		if i+1 < len(list) {
			p.whole.to = list[i+1].Pos()
		} else if i > 0 {
			p.whole.from = list[i-1].End()
		}

		all = append(all, p)
	}

	return all
}

func spanOf(n ast.Node) span {
	return span{n.Pos(), n.End()}
}

// span returns the part that the operation change replaces.
func (p place) span() span {
	if len(p.values) == 0 {
		return p.whole
	}

	return span{p.values[0].Pos(), p.values[len(p.values)-1].End()}
}

// mentions reports whether the head has all words, which are names, literals or
// operators. It skips the bodies of function literals.
func (p place) mentions(words []string) bool {
	has := map[string]bool{}
	ast.Inspect(p.head, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			has[n.Name] = true
		case *ast.BasicLit:
			has[n.Value] = true
		case *ast.BinaryExpr:
			has[n.Op.String()] = true
		case *ast.AssignStmt:
			has[n.Tok.String()] = true
		case *ast.BlockStmt:
			return false
		}

		return true
	})

	return !slices.ContainsFunc(words, func(word string) bool { return !has[word] })
}

// find returns the innermost places of a kind that mention all words.
func find(body ast.Node, kind string, words []string) (found []place) {
	ast.Inspect(body, func(n ast.Node) bool {
		for _, p := range placesAt(n) {
			// if a call is a statement, only the statement is found
			within := func(o place) bool { return p.span().holds(o.span()) }
			around := func(o place) bool { return o.span().holds(p.span()) }
			matches := p.kind == kind && p.mentions(words)

			if matches && !slices.ContainsFunc(found, within) {
				found = append(slices.DeleteFunc(found, around), p)
			}
		}

		return true
	})

	return found
}

func (s span) holds(o span) bool {
	return s.from <= o.from && o.to <= s.to
}
