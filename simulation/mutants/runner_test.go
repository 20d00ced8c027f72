package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestArgs(t *testing.T) {
	for _, tt := range []struct {
		probe
		want string
	}{
		{probe{test{"integration/discovery", "TestD4"}, push}, "3m0s -test.short -test.run=^TestD4$"},
		{probe{test{"integration/discovery", "TestD4"}, night}, "3m0s -test.run=^TestD4$"},
		{probe{test{"runtime/internal/lease", "TestWalk"}, push}, "1m0s -test.run=^TestWalk$"},
		{probe{test{walkDir, "TestKept"}, push}, "1m0s -test.short -test.run=^TestKept$"},
		{probe{test{walkDir, "TestWalk/17"}, push}, "1m0s -first=17 -seeds=1 -test.run=^TestWalk$"},
		{probe{test{walkDir, "TestWalk/51-100"}, push}, "3m0s -first=51 -seeds=50 -test.run=^TestWalk$"},
	} {
		if got := strings.Join(tt.args(), " "); !strings.HasSuffix(got, "-test.timeout="+tt.want) {
			t.Errorf("%v: %s, want %s", tt.probe, got, tt.want)
		}
	}
}

func TestParseOutput(t *testing.T) {
	failed := errors.New("exit status 1")
	for _, tt := range []struct {
		dir, out string
		err      error
		want     result
	}{
		{"a", "=== RUN   TestA\n--- PASS: TestA (0.00s)\nPASS\n", nil, result{passed: true}},
		{"a", "=== RUN   TestA\n    a_test.go:7: not with -short\n--- SKIP: TestA (0.00s)\nPASS\n", nil, result{}},
		{"a", "=== RUN   TestA\n    a_test.go:7: wrong\n--- FAIL: TestA (0.00s)\nFAIL\n", failed, result{failed: "TestA", why: "a_test.go:7: wrong"}},
		{"a", "=== RUN   TestA\n    a_test.go:7: fine\n--- PASS: TestA (0.00s)\n=== RUN   TestB\n=== RUN   TestB/c\npanic: no\n", failed, result{failed: "TestB", why: "panic: no", passed: true}},
		{walkDir, "=== RUN   TestWalk\n=== RUN   TestWalk/1\n=== RUN   TestWalk/2\n    walk_test.go:7: a rule\n--- FAIL: TestWalk (0.1s)\n    --- PASS: TestWalk/1\n    --- FAIL: TestWalk/2\n",
			failed, result{failed: "TestWalk/2", why: "walk_test.go:7: a rule"}},
		{walkDir, "=== RUN   TestWalk\n=== RUN   TestWalk/1\nfatal error: all goroutines are asleep\n", failed, result{failed: "TestWalk/1", why: "fatal error: all goroutines are asleep"}},
		{"a", "killed\n", failed, result{failed: "TestX", why: "killed"}},
	} {
		if got := parseOutput(test{tt.dir, "TestX"}, tt.out, tt.err); got != tt.want {
			t.Errorf("%q says %+v, want %+v", tt.out, got, tt.want)
		}
	}
}

func TestProbes(t *testing.T) {
	m := &mutant{edits: []edit{{file: "a/b.go"}}, tests: []test{{"integration/x", "TestReal"}, {"a", "TestUnit"}}}
	for _, tt := range []struct {
		last *probe
		want string
	}{
		{nil, "TestUnit push, .* push, .*Walk.* push, TestReal push, TestWalk/1-50 push, TestWalk/51-70 push, " +
			"TestUnit night, .* night, .*Walk.* night, TestReal night"},
		{&probe{test{walkDir, "TestWalk/17"}, push}, "TestWalk/17 push, TestUnit push, "},
		{&probe{test{"integration/x", "TestY"}, night}, "TestY push, TestY night, TestUnit push, "},
	} {
		var got []string
		for _, p := range m.probes(tt.last, 70) {
			got = append(got, p.name+" "+string(p.at))
		}
		if got := strings.Join(got, ", "); !strings.HasPrefix(got, tt.want) {
			t.Errorf("after %v: %s, want %s", tt.last, got, tt.want)
		}
	}
}

// The page is read as it was written.
func TestPage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	if last, err := readPage(file); err != nil || len(last) > 0 {
		t.Fatalf("no page says %v, %v", last, err)
	}
	want := map[string]*probe{
		"lease/a":  {test{"runtime/internal/lease", "TestWalk"}, push},
		"lease/b":  {test{"integration/x", "TestReal"}, night},
		"bounds/c": {test{walkDir, "TestWalk/17"}, push},
	}
	outcomes := []outcome{{mutant: &mutant{room: "lease", name: "nobody-notices", row: "D1", out: "a rule"}}}
	for id, p := range want {
		room, name, _ := strings.Cut(id, "/")
		outcomes = append(outcomes, outcome{mutant: &mutant{room: room, name: name, row: "D1, G2", out: "a rule"}, by: &notice{probe: *p, after: time.Second}})
	}
	if err := writePage(file, outcomes, 70, time.Minute); err != nil {
		t.Fatal(err)
	}
	last, err := readPage(file)
	if err != nil || len(last) != len(want) {
		t.Fatalf("the page says %v, %v", last, err)
	}
	for id, p := range want {
		if got := last[id]; got == nil || *got != *p {
			t.Errorf("the page says that %s was noticed by %v, want %v", id, got, *p)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for _, line := range []string{
		"**3 of 4 mutants are noticed**: 2 by what runs on each push, 1 by tests that run by night.",
		"| tests on real etcd | 0 | 1 |",
		"| all | 2 | 1 |",
		"| lease/nobody-notices | D1 | a rule | nobody | | | |",
	} {
		if !slices.Contains(lines, line) {
			t.Errorf("the page has no line %q:\n%s", line, text)
		}
	}
}

func TestSum(t *testing.T) {
	noticed := outcome{mutant: &mutant{room: "lease", name: "a"}, by: &notice{}}
	if err := sum([]outcome{noticed}); err != nil {
		t.Error(err)
	}
	err := sum([]outcome{{mutant: &mutant{room: "lease", name: "b", out: "a rule"}}, noticed})
	if err == nil || !strings.Contains(err.Error(), "make mutants MUTANT=lease/b") {
		t.Errorf("the error is %v", err)
	}
}
