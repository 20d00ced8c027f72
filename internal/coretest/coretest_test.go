package coretest

import (
	"go/parser"
	"go/token"
	"testing"
)

func TestProblems(t *testing.T) {
	for _, tt := range []struct {
		source string
		want   int
	}{
		{`import "time"; func f(now time.Time) time.Time { return now.Add(time.Second) }`, 0},
		{`import "sync"; var mu sync.Mutex`, 1},
		{`import "time"; var now = time.Now()`, 1},
		{`func f() { go f() }`, 1},
		{`func f(c chan int) { c <- 1 }`, 2},
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "core.go", "package p; "+tt.source, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := problems(file); len(got) != tt.want {
			t.Errorf("%s: %v, want %d problems", tt.source, got, tt.want)
		}
	}
}
