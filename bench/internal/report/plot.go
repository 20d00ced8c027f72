package report

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"strings"
	"unicode"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

// chart is a bar for each peer, case by case, with the interval of its median.
type chart struct {
	file, title string
	groups      []group
}

type group struct {
	title string
	bars  []bar
}

type bar struct {
	peer   string
	own    bool
	figure results.Figure
}

// charts are the scenario's, one a metric that is plotted.
func (s *Scenario) charts(set results.Set) []chart {
	set = s.runs(set)
	var all []chart
	for _, m := range s.Metrics {
		if !m.Plot || len(set) == 0 {
			continue
		}
		c := chart{file: Slug(s.Name+"-"+m.Name) + ".svg", title: s.Title + ": " + m.Name}
		for _, name := range set.Cases() {
			g := group{title: name}
			for _, peer := range s.Peers {
				if f, ok := set.Figure(name, peer, m.Name); ok {
					g.bars = append(g.bars, bar{peer, peer == s.own(), f})
				}
			}
			if len(g.bars) > 0 {
				c.groups = append(c.groups, g)
			}
		}
		if len(c.groups) > 0 {
			all = append(all, c)
		}
	}
	return all
}

// Slug makes the name of a file of words.
func Slug(s string) string {
	words := strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	return strings.ReplaceAll(strings.ToLower(strings.Join(words, "-")), "µ", "u")
}

// Measures of a plot.
const (
	plotWidth = vg.Length(480)
	rowHeight = vg.Length(17)
	barHeight = vg.Length(11)
	margin    = vg.Length(8)
	groupGap  = 0.4 // of a row
)

// The colours, on a background of their own, so that a plot is readable on any page.
var (
	ink     = color.RGBA{0x1f, 0x23, 0x28, 0xff}
	faded   = color.RGBA{0x59, 0x63, 0x6e, 0xff}
	lines   = color.RGBA{0xe1, 0xe4, 0xe8, 0xff}
	gray    = color.RGBA{0x8c, 0x95, 0x9f, 0xff}
	blue    = color.RGBA{0x09, 0x69, 0xda, 0xff}
	paleRed = color.RGBA{0xf3, 0xc1, 0xbc, 0xff} // bars that stand for more than they show
)

// svg draws the chart.
func (c chart) svg() ([]byte, error) {
	scale := scaleOf(c.groups)
	p := plot.New()
	p.Title.Text, p.Title.TextStyle, p.Title.Padding = c.title, style(11, xfont.WeightBold, ink), vg.Points(4)
	if p.Title.TextStyle.Width(c.title) > plotWidth-2*margin {
		p.Title.Text = strings.Replace(c.title, ": ", ":\n", 1)
	}
	grid := plotter.NewGrid()
	grid.Horizontal.Width, grid.Vertical = 0, draw.LineStyle{Color: lines, Width: vg.Points(0.5)}
	p.Add(grid)
	rows, err := c.drawBars(p, scale)
	if err != nil {
		return nil, err
	}
	scale.axis(&p.X, c.note())
	p.Y.Min, p.Y.Max = -rows+0.4, 0.6
	p.Y.LineStyle.Width, p.Y.Tick.LineStyle.Width, p.Y.Padding = 0, 0, 0
	p.Y.Tick.Label.Font, p.Y.Tick.Label.Color = style(9, xfont.WeightNormal, ink).Font, ink

	around := vg.Length(64) // title and axis
	if strings.Contains(p.Title.Text, "\n") {
		around += 14
	}
	return paint(p, around+rowHeight*vg.Length(rows))
}

// note says what the whiskers are, or why there are none.
func (c chart) note() string {
	note := ""
	for _, g := range c.groups {
		for _, b := range g.bars {
			if _, _, ok := b.figure.Spread(); ok {
				return "whiskers: " + confidence + " interval of the median"
			}
			if b.figure.NoInterval != nil {
				note = "too few runs for intervals"
			}
		}
	}
	return note
}

func paint(p *plot.Plot, height vg.Length) ([]byte, error) {
	canvas := vgsvg.NewWith(vgsvg.UseWH(plotWidth, height))
	page := draw.New(canvas)
	page.SetColor(p.BackgroundColor)
	page.Fill(page.Path())
	p.Draw(draw.Crop(page, margin, -margin, margin, -margin))
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return nil, err
	}
	// The fonts are not embedded, and few readers have these; the others have the same measures.
	return bytes.ReplaceAll(out.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;")), nil
}

// drawBars adds the bars, each a row below the one before, and returns how many rows there are.
func (c chart) drawBars(p *plot.Plot, scale scale) (rows float64, err error) {
	var peers plot.ConstantTicks
	for i, g := range c.groups {
		if i > 0 {
			rows += groupGap
		}
		if g.title != "" {
			if err := label(p, scale.low, -rows, g.title, style(9, xfont.WeightBold, ink)); err != nil {
				return 0, err
			}
			rows++
		}
		for _, b := range g.bars {
			if err := b.draw(p, -rows, scale); err != nil {
				return 0, err
			}
			peers = append(peers, plot.Tick{Value: -rows, Label: b.peer})
			rows++
		}
	}
	p.Y.Tick.Marker = peers
	return rows, nil
}

// draw adds the bar with its interval and figure.
func (b bar) draw(p *plot.Plot, y float64, scale scale) error {
	long := scale.clamp(b.figure.Median)
	bars, err := plotter.NewBarChart(plotter.Values{long}, barHeight)
	if err != nil {
		return err
	}
	bars.Horizontal, bars.XMin, bars.LineStyle.Width = true, y, 0
	bars.Color = gray
	if b.own {
		bars.Color = blue
	}
	if b.figure.Bound || b.figure.Median >= results.Never {
		bars.Color = paleRed
	}
	p.Add(bars)
	end := long
	if low, high, ok := b.figure.Spread(); ok {
		end = max(long, scale.clamp(high))
		whiskers, err := plotter.NewXErrorBars(struct {
			plotter.XYs
			plotter.XErrors
		}{plotter.XYs{{X: long, Y: y}}, plotter.XErrors{{Low: long - scale.clamp(low), High: end - long}}})
		if err != nil {
			return err
		}
		whiskers.LineStyle = draw.LineStyle{Color: ink, Width: vg.Points(1)}
		p.Add(whiskers)
	}
	text := number(b.figure.Median)
	if b.figure.Bound {
		text = show(b.figure)
	}
	return label(p, end, y, text, style(9, xfont.WeightNormal, ink))
}

// label adds text that begins right of a point.
func label(p *plot.Plot, x, y float64, words string, s text.Style) error {
	l, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: x, Y: y}}, Labels: []string{words}})
	if err != nil {
		return err
	}
	s.XAlign, s.YAlign = text.XLeft, text.YCenter
	l.TextStyle[0], l.Offset.X = s, vg.Points(4)
	p.Add(l)
	return nil
}

func style(size float64, weight xfont.Weight, c color.Color) text.Style {
	return text.Style{
		Color: c, Handler: plot.DefaultTextHandler, XAlign: text.XCenter, YAlign: text.YTop,
		Font: font.Font{Typeface: "Liberation", Variant: "Sans", Weight: weight, Size: vg.Points(size)},
	}
}

// scale is the range of the bars: logarithmic where figures are far apart.
type scale struct {
	low, high float64
	log       bool
}

func scaleOf(groups []group) scale {
	least, most := math.Inf(1), 0.0
	for _, g := range groups {
		for _, b := range g.bars {
			low, high, ok := b.figure.Spread()
			if !ok {
				low, high = b.figure.Median, b.figure.Median
			}
			for _, v := range []float64{low, b.figure.Median, high} {
				if 0 < v && v < results.Never {
					least, most = min(least, v), max(most, v)
				}
			}
		}
	}
	switch {
	case most == 0:
		return scale{high: 1}
	case most > 30*least:
		// The least gets a tenth of the width.
		return scale{low: least / math.Pow(most/least, 1./9), high: most, log: true}
	}
	return scale{high: most}
}

// clamp returns the part of v that the scale shows.
func (s scale) clamp(v float64) float64 { return min(max(v, s.low), s.high) }

func (s scale) axis(a *plot.Axis, note string) {
	a.Min, a.Max, a.Padding = s.low, s.high, 0
	a.LineStyle.Width, a.Tick.LineStyle.Width = 0, 0
	a.Tick.Label.Font, a.Tick.Label.Color = style(8, xfont.WeightNormal, faded).Font, faded
	a.Tick.Marker = ticks{plot.DefaultTicks{}}
	if s.log {
		a.Scale, a.Tick.Marker = fromLow{}, logTicks
		note = "logarithmic; " + note
	}
	a.Label.Text, a.Label.TextStyle = note, style(8, xfont.WeightNormal, faded)
	a.Label.TextStyle.YAlign = text.YBottom
}

// fromLow is a logarithmic scale on which all that is too little, such as the foot of a bar, is at
// the low end.
type fromLow struct{ plot.LogScale }

func (s fromLow) Normalize(low, high, v float64) float64 {
	return s.LogScale.Normalize(low, high, max(low, v))
}

// ticks are those of another marker within the axis, with the digits that they need.
type ticks struct{ plot.Ticker }

var logTicks = ticks{plot.LogTicks{Prec: -1}}

func (t ticks) Ticks(low, high float64) []plot.Tick {
	var all []plot.Tick
	for _, tick := range t.Ticker.Ticks(low, high) {
		if tick.Value < low || tick.Value > high {
			continue
		}
		if !tick.IsMinor() {
			tick.Label = fmt.Sprintf("%.0f", tick.Value)
			if math.Abs(tick.Value) < 1000 {
				tick.Label = fmt.Sprintf("%.4g", tick.Value)
			}
		}
		all = append(all, tick)
	}
	return all
}
