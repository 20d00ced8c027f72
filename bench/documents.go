package main

import (
	_ "embed"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/scenarios"
)

const (
	// resultsFile holds the last run of each scenario.
	resultsFile = "results.jsonl"
	docs        = "../docs/measured"
)

var (
	//go:embed performance.md.tmpl
	performance string
	//go:embed scaling.md.tmpl
	scaling string
)

// render returns the documents and plots by their paths below docs/measured.
func render(rs results.Set) (map[string][]byte, error) {
	return report.Files([]report.Document{
		{Name: "performance.md", Template: performance},
		{Name: "scaling.md", Template: scaling, Data: map[string]int{"endpoints": scenarios.ScaleEndpoints}},
	}, described(), rs)
}

// described returns what readers are told of the scenarios.
func described() []*report.Scenario {
	var all []*report.Scenario
	for _, s := range scenarios.All() {
		all = append(all, &s.Scenario)
	}
	return all
}

// writeDocuments writes what the results say, and removes the plots of what is no longer measured.
func writeDocuments(rs results.Set) error {
	files, err := render(rs)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(docs, report.PlotsDir)); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(docs, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, files[name], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// machine says what measures.
func machine() string {
	model := ""
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = ", " + strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s/%s, %d cores%s, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), model, runtime.Version())
}
