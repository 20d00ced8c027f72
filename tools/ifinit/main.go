// Command ifinit reads names of Go files, and prints each if whose init
// statement does something other than define variables: a condition only asks.
// It fails if there is one.
//
//	go run ./ifinit DIR <names # relative to DIR
package main

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"os"
)

func main() {
	files := token.NewFileSet()
	found := 0
	names := bufio.NewScanner(os.Stdin)
	for names.Scan() {
		file, err := parser.ParseFile(files, os.Args[1]+"/"+names.Text(), nil, 0)
		if err != nil {
			log.Fatal(err)
		}

		ast.Inspect(file, func(node ast.Node) bool {
			if n, ok := node.(*ast.IfStmt); ok && n.Init != nil && !defines(n.Init) {
				fmt.Println(files.Position(n.Pos()),
					"the init statement of an if may only define variables")
				found++
			}

			return true
		})
	}

	os.Exit(min(found, 1))
}

func defines(init ast.Stmt) bool {
	a, ok := init.(*ast.AssignStmt)
	return ok && a.Tok == token.DEFINE
}
