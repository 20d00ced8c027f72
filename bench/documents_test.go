package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/scenarios"
)

func known(t *testing.T) results.Set {
	t.Helper()
	all, err := results.Load(resultsFile)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestEveryTargetIsMeasured catches a misspelt case, and a scenario that was not run.
func TestEveryTargetIsMeasured(t *testing.T) {
	all := known(t)
	for _, s := range scenarios.All() {
		if s.Extra {
			continue
		}
		for _, v := range s.Verdicts(all) {
			if v.Outcome == report.NotMeasured || v.Outcome == report.Incomparable {
				t.Errorf("%s: %s: %s", s.Name, v.Target, v.Outcome)
			}
		}
	}
}

func TestDocumentsShowTheResults(t *testing.T) {
	all := known(t)
	files, err := render(all)
	if err != nil {
		t.Fatal(err)
	}
	again, err := render(all)
	if err != nil || !maps.EqualFunc(files, again, bytes.Equal) {
		t.Errorf("rendered twice, the files differ: %v", err)
	}
	for name, text := range files {
		written, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil {
			t.Error(err)
		} else if filepath.Ext(name) == ".md" && !bytes.Equal(written, text) { // plots may differ by processor in the last digit
			t.Errorf("%s is out of date: run `go run . -render`", name)
		}
	}
}

// TestProseIsNarrow leaves out tables, and lines that are generated.
func TestProseIsNarrow(t *testing.T) {
	const width = 120
	for name, text := range map[string]string{"performance.md.tmpl": performance, "scaling.md.tmpl": scaling} {
		n := 0
		for line := range strings.Lines(text) {
			n++
			line = strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(line, "|") || strings.HasPrefix(line, "{{") {
				continue
			}
			if long := utf8.RuneCountInString(line); long > width {
				t.Errorf("%s:%d has %d characters, want at most %d: %s", name, n, long, width, line)
			}
		}
	}
}
