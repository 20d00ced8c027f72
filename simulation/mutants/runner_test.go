package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestArgs(t *testing.T) {
	for tt, want := range map[test]string{
		{etcd, "integration/discovery", "TestD4", false}:    "-test.run=^TestD4$ -test.timeout=3m -test.short",
		{etcd, "integration/discovery", "TestD4", true}:     "-test.run=^TestD4$ -test.timeout=3m",
		{unit, "runtime/internal/lease", "TestWalk", false}: "-test.run=^TestWalk$ -test.timeout=3m",
		scheduleOf(17): "-seeds=1 -first=17",
	} {
		if got := strings.Join(tt.args(), " "); !strings.HasSuffix(got, want) {
			t.Errorf("args of %v: %s, want %s", tt, got, want)
		}
	}
}

func TestParseOutput(t *testing.T) {
	some, seed := test{unit, "a", ".*", false}, scheduleOf(17)
	for _, tt := range []struct {
		test
		out  string
		err  error
		want string
	}{
		{some, "=== RUN   TestA\n--- PASS: TestA (0.00s)\nPASS\n", nil, "<nil>, , passed true"},
		{some, "=== RUN   TestA\n    a_test.go:7: not with -short\n--- SKIP: TestA (0.00s)\nPASS\n", nil, "<nil>, , passed false"},
		{some, "=== RUN   TestA\n    a_test.go:7: wrong\n--- FAIL: TestA (0.00s)\nFAIL\n", errors.New("1"), "unit TestA in a, a_test.go:7: wrong, passed false"},
		{some, "=== RUN   TestA\n    a_test.go:7: fine\n--- PASS: TestA (0.00s)\n=== RUN   TestB\n=== RUN   TestB/c\npanic: no\n", errors.New("2"), "unit TestB in a, panic: no, passed true"},
		{seed, "=== RUN   TestWalk\n=== RUN   TestWalk/17\n    walk_test.go:7: a rule\n--- FAIL: TestWalk (0.1s)\n", errors.New("1"), "schedule 17, walk_test.go:7: a rule, passed false"},
		{some, "killed\n", errors.New("2"), "unit .* in a, , passed false"},
	} {
		r := parseOutput(tt.test, tt.out, tt.err)
		if got := fmt.Sprintf("%v, %s, passed %v", r.failed, r.why, r.passed); got != tt.want {
			t.Errorf("parseOutput(%q) = %s, want %s", tt.out, got, tt.want)
		}
	}
}

func TestCandidates(t *testing.T) {
	m := &mutant{edits: []edit{{dir: "a"}}, tests: []test{{room: etcd, dir: "integration/x", name: "TestX"}}}
	want := "[etcd TestX in integration/x unit .* in a unit .*Walk.* in a schedule 1 schedule 2]"
	if got := fmt.Sprint((&runner{seeds: 2}).candidates(m)); got != want {
		t.Errorf("candidates = %s, want %s", got, want)
	}
}

func TestTryAll(t *testing.T) {
	noticed, unnoticed := &mutant{id: "lease/a"}, &mutant{id: "lease/b", out: "a rule"}
	try := func(m *mutant) (r result, err error) {
		if m == noticed {
			r.failed = &test{room: unit}
		}
		return r, nil
	}
	if err := tryAll([]*mutant{noticed}, try); err != nil {
		t.Error(err)
	}
	if err := tryAll([]*mutant{noticed, unnoticed}, try); err == nil || !strings.Contains(err.Error(), "a rule\n\tmake mutants MUTANT=lease/b") {
		t.Errorf("tryAll: %v, want an error with the reason and the command", err)
	}
}
