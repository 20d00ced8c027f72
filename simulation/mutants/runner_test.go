package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseOutput(t *testing.T) {
	some := test{unit, "a", ".*", false}
	seed := scheduleOf(17)
	for _, tt := range []struct {
		test
		out  string
		err  error
		want string
	}{
		{some, "=== RUN   TestA\n--- PASS: TestA (0.00s)\nPASS\n", nil, "<nil>, , passed true"},
		{some,
			"=== RUN   TestA\n    a_test.go:7: not with -short\n--- SKIP: TestA (0.00s)\nPASS\n",
			nil, "<nil>, , passed false"},
		{some, "=== RUN   TestA\n    a_test.go:7: wrong\n--- FAIL: TestA (0.00s)\nFAIL\n",
			errors.New("1"), "unit TestA in a, a_test.go:7: wrong, passed false"},
		{some,
			"=== RUN   TestA\n    a_test.go:7: fine\n--- PASS: TestA (0.00s)\n=== RUN   TestB\n=== RUN   TestB/c\npanic: no\n",
			errors.New("2"), "unit TestB in a, panic: no, passed true"},
		{seed,
			"=== RUN   TestWalk\n=== RUN   TestWalk/17\n    walk_test.go:7: a rule\n--- FAIL: TestWalk (0.1s)\n",
			errors.New("1"), "schedule 17, walk_test.go:7: a rule, passed false"},
		{some, "killed\n", errors.New("2"), "unit .* in a, , passed false"},
	} {
		r := parseOutput(tt.test, tt.out, tt.err)
		got := fmt.Sprintf("%v, %s, passed %v", r.failed, r.why, r.passed)
		if got != tt.want {
			t.Errorf("parseOutput(%q) = %s, want %s", tt.out, got, tt.want)
		}
	}
}

func TestTryAll(t *testing.T) {
	noticed := &mutant{id: "lease/a"}
	unnoticed := &mutant{id: "lease/b", out: "a rule"}

	try := func(m *mutant) (r result, err error) {
		if m == noticed {
			r.failed = &test{room: unit}
		}

		return r, nil
	}
	if err := tryAll([]*mutant{noticed}, try); err != nil {
		t.Error(err)
	}

	err := tryAll([]*mutant{noticed, unnoticed}, try)
	if err == nil || !strings.Contains(err.Error(), "a rule\n\tmake mutants MUTANT=lease/b") {
		t.Errorf("tryAll: %v, want an error with the reason and the command", err)
	}
}
