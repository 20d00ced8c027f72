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
	cell := func(ok bool, format string, args ...any) string {
		text := fmt.Sprintf(format, args...)
		if !ok {
			text = "**" + text + "**"
		}
		return text
	}
	failed, written := r.Failed+r.AgainFailed, fmt.Sprintf("%d puts", r.Puts)
	if r.Bytes > 100_000 {
		written += fmt.Sprintf(", %.1f MB", float64(r.Bytes)/1e6)
	}
	heard := cell(r.Crowded || r.Heard < bounds.heard, "%v", r.Heard.Round(10*time.Millisecond))
	if r.Unheard != "" {
		heard = cell(r.Crowded, "not in %v", visitTimeout)
	}
	ended := ""
	if r.Err != "" {
		ended, _, _ = strings.Cut("; "+r.Err, "\n")
	}
	return strings.Join([]string{
		r.Way, r.Finding, r.What, written,
		cell(failed == 0 && r.Err == "", "%d of %d%s", failed, r.Calls, ended),
		cell(r.Memory() < bounds.memory, "%d to %d MiB, x %.2f", r.CalmKiB>>10, max(r.PeakKiB, r.AgainKiB)>>10, r.Memory()),
		cell(r.Processor < bounds.processor, "%.2f", max(0, r.Processor)), // below zero is noise
		cell(r.Lines < bounds.lines, "%.1f", r.Lines),
		cell(r.Descriptors < descriptorLimit, "%d", r.Descriptors),
		heard,
	}, " | ")
}

// String is a result on a line.
func (r result) String() string {
	return fmt.Sprintf("%-24s %6d puts %6.1f MB | failed %d/%d slowest %v | memory %d -> %d MiB, started %d MiB in %v (x %.2f) | "+
		"%.2f core | %.1f lines/s longest %d | %d descriptors | heard %v",
		r.Way, r.Puts, float64(r.Bytes)/1e6, r.Failed+r.AgainFailed, r.Calls, r.Slowest.Round(time.Millisecond),
		r.CalmKiB>>10, r.PeakKiB>>10, r.AgainKiB>>10, r.AgainTook.Round(time.Millisecond), r.Memory(),
		r.Processor, r.Lines, r.Longest, r.Descriptors, r.Heard.Round(time.Millisecond))
}
