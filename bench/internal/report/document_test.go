package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/image/font"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

func TestShow(t *testing.T) {
	for _, tt := range []struct {
		figure results.Figure
		want   string
	}{
		{results.Figure{Median: 2, Low: 1, High: 1234.5}, "2 (1 to 1234)"},
		{results.Figure{Median: 1, Low: 1, High: 1}, "1"},
		{results.Figure{Median: 1.001, Low: 1.001, High: 1.002}, "1.00"},
		{results.Figure{Median: 2, NoInterval: errors.New("too few")}, "2"},
		{results.Figure{Median: 2, Low: 1, High: results.Never}, "2 (1 to never)"},
		{results.Figure{Median: results.Never, Low: results.Never, High: results.Never}, "never"},
		{results.Figure{Median: 9, Low: 7, High: 9, Bound: true}, "> 9"},
		{results.Figure{Median: results.Never, Bound: true}, "never"},
	} {
		if got := show(tt.figure); got != tt.want {
			t.Errorf("%+v shows as %q, want %q", tt.figure, got, tt.want)
		}
	}
}

// sample is a scenario with figures of every kind.
var sample = &Scenario{
	Name: "s", Title: "a < b & c", About: "What is done.", Peers: []string{"floor", Ours, "slow", "stuck"}, Base: "floor",
	Metrics: []Metric{{Name: "ms", Ratio: true, Plot: true}, {Name: "µs a call", Plot: true}, {Name: "calls"}},
	Targets: []Target{{Case: "few", Metric: "ms", Limit: 2, Of: []string{"floor"}}},
}

func sampleRuns(rounds int) results.Set {
	var set results.Set
	for round := range rounds {
		for i, peer := range sample.Peers {
			values := map[string]float64{"ms": float64((1+round)*(1+i)*(1+i)*(1+i)*(1+i)) + 3, "µs a call": 5, "calls": 1}
			switch peer {
			case "slow":
				values[results.CutShort] = 1
			case "stuck":
				values["ms"] = results.Never
			}
			at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			set = append(set, results.Run{Scenario: "s", Case: "few", Peer: peer, Round: round, Values: values, At: at, Machine: "m"})
		}
	}
	return set
}

func TestFiles(t *testing.T) {
	documents := []Document{{Name: "p.md", Template: "{{measured}}\n{{missed}}\n{{reached}}\n{{beside \"s\" \"few\" \"ms\" \"this project\" \"stuck\" \"nobody\"}}\n{{scenario \"s\"}}\nof {{.}}, {{confidence}}\n", Data: "data"}}
	first, err := Files(documents, []*Scenario{sample}, sampleRuns(5))
	if err != nil {
		t.Fatal(err)
	}
	want := `Measured on 2026-01-02, m.
0 of 1 targets are reached, 0 of these within noise. These are not:

| scenario | target |  |
| --- | --- | --- |
| a < b & c | few: ms, at most 2 of floor | [not reached](#a--b--c): 8.50 (4.75 to 10.4) |
| scenario | target |  |
| --- | --- | --- |
51 | never | –
## A < b & c

` + "`make bench SCENARIO=s`" + `. What is done.

|  |  | ms | of floor | µs a call | calls |
| --- | --- | --- | --- | --- | --- |
| few | floor | 6 (4 to 8) | 1 | 5 | 1 |
| few | this project | 51 (19 to 83) | 8.50 (4.75 to 10.4) | 5 | 1 |
| few | slow | > 246 | > 41 | > 5 | > 1 |
| few | stuck | never | never | 5 | 1 |

![a < b & c: ms](performance/s-ms.svg)
![a < b & c: µs a call](performance/s-us-a-call.svg)
of data, 90 %
`
	if got := string(first["p.md"]); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := slices.Sorted(maps.Keys(first)); !slices.Equal(got, []string{"p.md", "performance/s-ms.svg", "performance/s-us-a-call.svg"}) {
		t.Errorf("files %q", got)
	}
	again, err := Files(documents, []*Scenario{sample}, sampleRuns(5))
	if err != nil || !maps.EqualFunc(first, again, bytes.Equal) {
		t.Errorf("another time the same results give something else: %v", err)
	}
}

func TestFilesMissNothing(t *testing.T) {
	for _, tt := range []struct{ template, want string }{
		{"", "no document shows the scenario s"},
		{`{{scenario "t"}}`, `no scenario "t"`},
		{`{{beside "s" "few" "ms" "floor"}}`, "no document shows the scenario s"},
	} {
		_, err := Files([]Document{{Name: "p.md", Template: tt.template}}, []*Scenario{sample}, nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: error %v, want one of %s", tt.template, err, tt.want)
		}
	}
}

func TestTooFewRunsAreSaid(t *testing.T) {
	documents := []Document{{Name: "p.md", Template: "{{measured}}\n{{missed}}\n{{scenario \"s\"}}\n"}}
	const note = "These figures have no interval, for there were too few rounds that gave one: all of a < b & c."
	for rounds, want := range map[int]int{1: 1, 4: 1, 5: 0} {
		files, err := Files(documents, []*Scenario{sample}, sampleRuns(rounds))
		if err != nil {
			t.Fatal(err)
		}
		page := string(files["p.md"])
		if got := strings.Count(page, note); got != want || strings.Count(page, "interval") != want || strings.Contains(page, "unknown") {
			t.Errorf("%d rounds: the page says it %d times, want %d times and nothing else of it:\n%s", rounds, got, want, page)
		}
	}
	want := "4 runs have no interval: need >= 5 samples for confidence interval at level 0.9.\nfew: ms, at most 2 of floor: not reached, noise unknown: "
	if got := sample.Text(sampleRuns(4)); !strings.Contains(got, want) {
		t.Errorf("the terminal is told\n%s\nwant %q in it", got, want)
	}
}

func TestBlind(t *testing.T) {
	few := &Scenario{Name: "few", Title: "few rounds", Peers: []string{Ours}, Metrics: []Metric{{Name: "ms"}}}
	part := &Scenario{Name: "part", Title: "a figure that was absent once", Peers: []string{Ours}, Metrics: []Metric{{Name: "ms"}, {Name: "now and then"}}}
	var set results.Set
	for round := range 5 {
		values := map[string]float64{"ms": 1}
		if round > 0 {
			values["now and then"] = 2
		}
		set = append(set, results.Run{Scenario: "part", Peer: Ours, Round: round, Values: values})
	}
	set = append(set, results.Run{Scenario: "few", Peer: Ours, Values: map[string]float64{"ms": 1}})
	want := "These figures have no interval, for there were too few rounds that gave one: all of few rounds, and some of a figure that was absent once."
	if got := blind([]*Scenario{part, few}, set); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := blind([]*Scenario{part, few}, nil); got != "" {
		t.Errorf("of what was not measured: %q", got)
	}
}

func TestMeasured(t *testing.T) {
	run := func(scenario, machine string, day int) results.Run {
		return results.Run{Scenario: scenario, Machine: machine, At: time.Date(2026, 1, day, 12, 0, 0, 0, time.UTC)}
	}
	scenarios := []*Scenario{{Name: "a", Title: "first"}, {Name: "b", Title: "second"}, {Name: "c", Title: "third"}}
	for _, tt := range []struct {
		set  results.Set
		want string
	}{
		{nil, "Nothing has been measured yet."},
		{results.Set{run("a", "m", 1), run("b", "m", 1)}, "Measured on 2026-01-01, m."},
		{results.Set{run("a", "", 1)}, "Measured on 2026-01-01, on a machine that was not recorded."},
		{
			results.Set{run("c", "m", 1), run("b", "m", 2), run("a", "m", 1)},
			"Not all was measured on one day and one machine:\n\n- on 2026-01-01, m: first; third.\n- on 2026-01-02, m: second.",
		},
		{
			results.Set{run("a", "m", 1), run("b", "n", 1), run("elsewhere", "o", 3)},
			"Not all was measured on one day and one machine:\n\n- on 2026-01-01, m: first.\n- on 2026-01-01, n: second.",
		},
	} {
		if got := measured(scenarios, tt.set); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestPlotsShowEverything(t *testing.T) {
	charts := sample.charts(sampleRuns(5))
	if len(charts) != 2 {
		t.Fatalf("%d plots, want 2", len(charts))
	}
	svg, err := charts[0].svg()
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string]bool)
	for decoder := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := token.(xml.CharData); ok {
			texts[string(data)] = true
		}
	}
	for _, want := range append(sample.Peers, "a < b & c: ms", "few", "6", "51", "> 246", "never", "logarithmic; whiskers: 90 % interval of the median") {
		if !texts[want] {
			t.Errorf("the plot lacks %q", want)
		}
	}
}

// TestPlotsCutNoText draws what is longest: a title, the name of a peer, and figures beside the longest bars.
func TestPlotsCutNoText(t *testing.T) {
	c := chart{title: strings.Repeat("a long title ", 6) + ": " + strings.Repeat("metric ", 5), groups: []group{{title: "case", bars: []bar{
		{peer: "a peer with quite a long name", figure: results.Figure{Median: 123_456, Low: 100_000, High: 200_000}},
		{peer: "short", figure: results.Figure{Median: 200_000, Bound: true}},
		{peer: "stuck", figure: results.Figure{Median: results.Never}},
	}}}}
	svg, err := c.svg()
	if err != nil {
		t.Fatal(err)
	}
	var drawn struct {
		Texts []struct {
			X     float64 `xml:"x,attr"`
			Style string  `xml:"style,attr"`
			Words string  `xml:",chardata"`
		} `xml:"g>text"`
	}
	if err := xml.Unmarshal(svg, &drawn); err != nil {
		t.Fatal(err)
	}
	if len(drawn.Texts) < 8 {
		t.Fatalf("only %d texts:\n%s", len(drawn.Texts), svg)
	}
	for _, text := range drawn.Texts {
		s := style(9, font.WeightNormal, ink)
		if strings.Contains(text.Style, "bold") {
			s = style(11, font.WeightBold, ink)
		}
		if end := text.X + s.Width(text.Words).Points(); text.X < 0 || end > plotWidth.Points() {
			t.Errorf("%q is from %.0f to %.0f of %.0f", text.Words, text.X, end, plotWidth.Points())
		}
	}
}

func TestPlotsWithoutIntervals(t *testing.T) {
	for _, tt := range []struct {
		rounds int
		metric int
		want   string
	}{{4, 0, "too few runs for intervals"}, {5, 1, ""}} {
		if got := sample.charts(sampleRuns(tt.rounds))[tt.metric].note(); got != tt.want {
			t.Errorf("%d rounds: %q, want %q", tt.rounds, got, tt.want)
		}
	}
}

func TestTicksAreOnTheAxis(t *testing.T) {
	var got []string
	for _, tick := range logTicks.Ticks(30, 20_000) {
		if !tick.IsMinor() {
			got = append(got, tick.Label)
		}
	}
	if want := []string{"100", "1000", "10000"}; !slices.Equal(got, want) {
		t.Errorf("ticks %q, want %q", got, want)
	}
}
