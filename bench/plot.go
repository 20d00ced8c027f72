package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// plot is a bar a peer, case by case, with the spread of its rounds.
type plot struct {
	file, title string
	groups      []barGroup
}

type barGroup struct {
	title string
	bars  []bar
}

type bar struct {
	label string
	figure
}

// plotted are the plots of a scenario.
func (s *scenario) plotted(rs results) []plot {
	var all []plot
	for _, m := range s.metrics {
		if !m.plot {
			continue
		}
		p := plot{file: slug(s.name+"-"+m.name) + ".svg", title: s.title + ": " + m.name}
		for _, c := range rs.cases() {
			group := barGroup{title: c}
			for _, peer := range s.peers {
				if f, ok := rs.figure(c, peer, m.name); ok {
					group.bars = append(group.bars, bar{peer, f})
				}
			}
			p.groups = append(p.groups, group)
		}
		if len(p.groups) > 0 {
			all = append(all, p)
		}
	}
	return all
}

func slug(s string) string {
	words := strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	return strings.ReplaceAll(strings.ToLower(strings.Join(words, "-")), "µ", "u")
}

func (s *scenario) plots(rs results) error {
	for _, p := range s.plotted(rs.of(s.name)) {
		if err := os.WriteFile(filepath.Join(docs, "performance", p.file), []byte(p.svg()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Measures of a plot, in pixels.
const (
	plotWidth  = 640
	labelWidth = 130
	barWidth   = 400
	barHeight  = 16
	barStep    = 22
	headHeight = 34
	groupHead  = 24
)

// svg draws the plot with a background of its own, so that it is readable on any page, and follows
// the reader's choice of light or dark.
func (p plot) svg() string {
	y := headHeight
	var body strings.Builder
	scale := p.scale()
	for _, g := range p.groups {
		if g.title != "" {
			fmt.Fprintf(&body, `<text x="12" y="%d" class="case">%s</text>`+"\n", y+15, html.EscapeString(g.title))
			y += groupHead
		}
		for _, b := range g.bars {
			b.draw(&body, y, scale)
			y += barStep
		}
		y += 6
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d" role="img">
<title>%[3]s</title>
<style>
.page{fill:#fff}text{font:13px system-ui,sans-serif;fill:#1f2328}.head,.case{font-weight:600}.note{fill:#59636e}
.bar{fill:#8c959f}.own{fill:#0969da}.cut{fill-opacity:.5}.spread{stroke:#1f2328;stroke-width:1.5}
@media(prefers-color-scheme:dark){.page{fill:#0d1117}text{fill:#f0f6fc}.note{fill:#9198a1}.bar{fill:#656c76}.own{fill:#4493f8}.spread{stroke:#f0f6fc}}
</style>
<rect class="page" width="%[1]d" height="%[2]d" rx="6"/>
<text x="12" y="22" class="head">%[3]s</text><text x="%[4]d" y="22" text-anchor="end" class="note">%[5]s</text>
%[6]s</svg>
`, plotWidth, y+4, html.EscapeString(p.title), plotWidth-12, scale.note(), body.String())
}

func (b bar) draw(out *strings.Builder, y int, scale scale) {
	class := "bar"
	if b.label == peerOurs || b.label == peerGenerator {
		class += " own"
	}
	text := number(b.median)
	if b.cut {
		class += " cut"
		text = "> " + number(b.low)
	}
	end := labelWidth + scale.at(b.median)
	fmt.Fprintf(out, `<text x="%d" y="%d" text-anchor="end">%s</text>`, labelWidth-8, y+13, html.EscapeString(b.label))
	fmt.Fprintf(out, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`, class, labelWidth, y, scale.at(b.median), barHeight)
	right := end
	if b.low != b.high && b.high < never && !b.cut {
		right = labelWidth + scale.at(b.high)
		fmt.Fprintf(out, `<line class="spread" x1="%.1f" x2="%.1f" y1="%[3]d" y2="%[3]d"/>`, labelWidth+scale.at(b.low), right, y+barHeight/2)
	}
	fmt.Fprintf(out, `<text x="%.1f" y="%d">%s</text>`+"\n", max(end, right)+6, y+13, text)
}

// scale turns figures into pixels: by their logarithms where they are far apart.
type scale struct {
	low, high float64
	log       bool
}

func (p plot) scale() scale {
	s := scale{low: math.Inf(1)}
	for _, g := range p.groups {
		for _, b := range g.bars {
			if b.high < never {
				s.high = max(s.high, b.high)
			}
			if b.low > 0 {
				s.low = min(s.low, b.low)
			}
		}
	}
	s.log = s.high > 30*s.low
	return s
}

func (s scale) at(v float64) float64 {
	switch {
	case v >= never:
		return barWidth
	case v <= 0 || s.high <= 0:
		return 0
	case s.log:
		// The least gets a tenth of the width.
		span := math.Log(s.high / s.low)
		return max(2, barWidth*(0.1+0.9*math.Log(v/s.low)/span))
	}
	return barWidth * v / s.high
}

func (s scale) note() string {
	if s.log {
		return "logarithmic"
	}
	return ""
}
