package report

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

// A Target is what a figure is to reach: a limit that it does not exceed or, of a metric of which
// more is better, does not fall short of.
type Target struct {
	Case   string // "*" is every case that was measured
	Metric string
	Limit  float64
	Of     []string // the limit is a multiple of the figure of the best of these
	Ahead  bool     // of Of, in place of a limit: better than the best of them
	Reason string   // why it is not reached, if it is not, in a few words
}

// A Verdict tells whether a target is reached.
type Verdict struct {
	Target   string // in words
	Outcome  Outcome
	figure   string // if there is one
	scenario *Scenario
	reason   string
}

// An Outcome is what a figure says about a target. The median decides.
type Outcome string

// The outcomes, in words.
const (
	Reached           Outcome = "reached"
	ReachedInNoise    Outcome = "reached, within noise" // an end of the interval is beyond the limit
	ReachedBlindly    Outcome = "reached, noise unknown"
	NotReached        Outcome = "not reached"
	NotReachedInNoise Outcome = "not reached, within noise" // an end of the interval is within the limit
	NotReachedBlindly Outcome = "not reached, noise unknown"
	Undecided         Outcome = "not known, for runs were cut short"
	Incomparable      Outcome = "not known, for there is nothing to compare with"
	NotMeasured       Outcome = "not measured"
)

// Missed reports whether the target is not reached.
func (o Outcome) Missed() bool {
	return o == NotReached || o == NotReachedInNoise || o == NotReachedBlindly
}

// sighted is the outcome without that its noise is unknown, which a page says once.
func (o Outcome) sighted() Outcome {
	switch o {
	case ReachedBlindly:
		return Reached
	case NotReachedBlindly:
		return NotReached
	}
	return o
}

// Verdicts returns one for each target, and one for each case of a target of all.
func (s *Scenario) Verdicts(set results.Set) []Verdict {
	set = s.runs(set)
	var all []Verdict
	for _, t := range s.Targets {
		cases := []string{t.Case}
		if t.Case == "*" {
			if cases = set.Cases(); len(cases) == 0 {
				cases = []string{"every case"}
			}
		}
		for _, c := range cases {
			all = append(all, s.verdict(set, t, c))
		}
	}
	return all
}

func (s *Scenario) verdict(set results.Set, t Target, c string) Verdict {
	v := Verdict{Outcome: NotMeasured, scenario: s, reason: t.Reason}
	more := s.metric(t.Metric).More
	peer := best(set, c, t.Metric, t.Of, more)
	f, ok := set.Figure(c, s.own(), t.Metric)
	if ok && len(t.Of) > 0 {
		v.Outcome = Incomparable
		f, ok = set.Ratio(c, s.own(), peer, t.Metric)
	}
	if ok {
		v.Outcome = t.judge(f, more)
		v.figure = showBy(f, func(v float64) string { return t.number(v, more) })
	}
	v.Target = t.words(c, peer, more)
	return v
}

// best returns the best of peers, of those that have a figure.
func best(set results.Set, c, metric string, peers []string, more bool) string {
	var leader string
	var least results.Figure
	for _, peer := range peers {
		f, ok := set.Figure(c, peer, metric)
		if ok && (leader == "" || (f.Median < least.Median) != more && f.Median != least.Median) {
			leader, least = peer, f
		}
	}
	return leader
}

func (t Target) judge(f results.Figure, more bool) Outcome {
	reached := t.holds(f.Median, more)
	either := func(yes, no Outcome) Outcome {
		if reached {
			return yes
		}
		return no
	}
	low, high, spread := f.Spread()
	switch {
	case f.Bound && reached != more: // the bound is on the side that may still change
		return Undecided
	case f.NoInterval != nil && !f.Bound:
		return either(ReachedBlindly, NotReachedBlindly)
	case spread && (t.holds(low, more) != reached || t.holds(high, more) != reached):
		return either(ReachedInNoise, NotReachedInNoise)
	}
	return either(Reached, NotReached)
}

// holds reports whether v, a figure or a ratio, is what the target asks for.
func (t Target) holds(v float64, more bool) bool {
	switch {
	case t.Ahead && more:
		return v > 1
	case t.Ahead:
		return v < 1
	case more:
		return v >= t.Limit
	}
	return v <= t.Limit
}

// number has as many digits as show on which side of the limit v is.
func (t Target) number(v float64, more bool) string {
	text := number(v)
	if rounded, err := strconv.ParseFloat(text, 64); err == nil && t.holds(rounded, more) != t.holds(v, more) {
		return fmt.Sprintf("%.4g", v)
	}
	return text
}

// words says what is asked for, beside the best of the peers if it is known.
func (t Target) words(c, leader string, more bool) string {
	who := strings.Join(t.Of, ", ")
	if len(t.Of) > 1 {
		who = "the best of " + who
		if leader != "" {
			who = "the best peer, " + leader
		}
	}
	limit := "at most "
	if more {
		limit = "at least "
	}
	text := t.Metric + ", "
	switch {
	case t.Ahead:
		text += "ahead of " + who
	case len(t.Of) > 0:
		text += fmt.Sprintf("%s%.4g of %s", limit, t.Limit, who)
	default:
		text += limit + number(t.Limit)
	}
	if c != "" {
		text = c + ": " + text
	}
	return text
}

// text is the outcome for a terminal.
func (v Verdict) text() string { return v.tell(v.Outcome) }

func (v Verdict) tell(o Outcome) string {
	if v.figure == "" {
		return string(o)
	}
	return string(o) + ": " + v.figure
}

// markdown leads from a target that is not reached to its section, which says more.
func (v Verdict) markdown() string {
	outcome := v.Outcome.sighted()
	if !outcome.Missed() {
		return v.tell(outcome)
	}
	text := fmt.Sprintf("[%s](%s): %s", outcome, v.scenario.link(), v.figure)
	if v.reason != "" {
		text += "; " + v.reason
	}
	return text
}

// missed says how many targets are reached, and has those that are not in a table.
func missed(scenarios []*Scenario, set results.Set) string {
	all, reached, noise := 0, 0, 0
	for _, s := range scenarios {
		for _, v := range s.Verdicts(set) {
			all++
			if v.Outcome.holds() {
				reached++
			}
			if v.Outcome == ReachedInNoise {
				noise++
			}
		}
	}
	text := fmt.Sprintf("%d of %d targets are reached, %d of these within noise.", reached, all, noise)
	if reached < all {
		text += " These are not:\n\n" + targets(scenarios, set, false)
	}
	return text
}

// holds reports whether the target is reached, as far as is known.
func (o Outcome) holds() bool {
	return o == Reached || o == ReachedInNoise || o == ReachedBlindly
}

// targets is a table of the targets that are reached, or of all others.
func targets(scenarios []*Scenario, set results.Set, reached bool) string {
	rows := []row{{"scenario", "target", ""}}
	for _, s := range scenarios {
		title := s.Title
		for _, v := range s.Verdicts(set) {
			if v.Outcome.holds() == reached {
				rows = append(rows, row{title, v.Target, v.markdown()})
				title = ""
			}
		}
	}
	return markdown(rows)
}
