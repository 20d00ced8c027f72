package main

import (
	"bytes"
	_ "embed"
	"fmt"
	goruntime "runtime"
	"slices"
	"strings"
	"text/template"
	"time"
)

//go:embed hostile.md.tmpl
var pageText string

// page returns docs/measured/hostile.md.
func page(results []result, duration time.Duration, own int, now time.Time) ([]byte, error) {
	tmpl, err := template.New("").Parse(pageText)
	if err != nil {
		return nil, err
	}
	var calm []int
	var over []string
	added, failed := 0, 0
	for _, r := range results {
		if len(r.excess(bounds)) > 0 {
			over = append(over, r.Way)
		}
		failed += r.Failed + r.AgainFailed
		calm = append(calm, r.CalmKiB)
		added = max(added, max(r.PeakKiB, r.AgainKiB)-r.CalmKiB)
	}
	slices.Sort(calm)
	var doc bytes.Buffer
	err = tmpl.Execute(&doc, map[string]any{
		"Results": results, "Over": strings.Join(over, ", "), "Failed": failed, "Duration": duration, "Own": own, "Added": added >> 10, "Date": now.Format(time.DateOnly), "Calm": calm[len(calm)/2] >> 10,
		"Go": goruntime.Version(), "System": goruntime.GOOS + "/" + goruntime.GOARCH, "Processors": goruntime.NumCPU(),
		"Instances": instances, "Rate": int(time.Second / callPeriod), "Descriptors": descriptorLimit,
		"Memory": bounds.memory, "Processor": bounds.processor, "Lines": bounds.lines, "Heard": bounds.heard,
	})
	return doc.Bytes(), err
}

// Row is a result as a row of the page's table. What is over its bound is bold.
func (r result) Row() string {
	written := fmt.Sprintf("%d puts", r.Puts)
	if r.Bytes > 100_000 {
		written += fmt.Sprintf(", %.1f MB", float64(r.Bytes)/1e6)
	}
	cells := []string{r.Way, r.Finding, r.What, written}
	for _, c := range r.columns(bounds) {
		if !c.within {
			c.text = "**" + c.text + "**"
		}
		cells = append(cells, c.text)
	}
	return strings.Join(cells, " | ")
}
