// Command tokens counts the tokens of the Go files whose names it reads, and
// prints a line "COUNT NAME" for each: go run ./tokens DIR <names
//
// It counts what somebody typed: neither comments nor the semicolons that the
// scanner inserts. Names are relative to DIR.
package main

import (
	"bufio"
	"fmt"
	"go/scanner"
	"go/token"
	"log"
	"os"
)

func main() {
	names := bufio.NewScanner(os.Stdin)
	for names.Scan() {
		name := names.Text()
		src, err := os.ReadFile(os.Args[1] + "/" + name)
		if err != nil {
			log.Fatal(err)
		}

		fmt.Println(count(src), name)
	}
}

func count(src []byte) (n int) {
	var s scanner.Scanner
	s.Init(token.NewFileSet().AddFile("", -1, len(src)), src, nil, 0)

	for {
		_, tok, text := s.Scan()
		if tok == token.EOF {
			return n
		}

		if tok != token.SEMICOLON || text != "\n" {
			n++
		}
	}
}
