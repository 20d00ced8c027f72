package results

import (
	"slices"

	"golang.org/x/perf/benchmath"
)

// Confidence is the least with which an interval holds the median. Five runs are enough for it:
// their least and greatest hold it with 94 %. For 95 % it would take six.
const Confidence = 0.9

// A Figure is a measurement over all rounds. Its values may be Never.
type Figure struct {
	Median     float64
	Low, High  float64 // the median's interval, where there is one
	Runs       int
	NoInterval error // why there is none
	Bound      bool  // runs were cut short: the median is a lower bound, and there is no interval
}

// Spread returns the figure's interval, if it has one and not all of it is one value.
func (f Figure) Spread() (low, high float64, ok bool) {
	return f.Low, f.High, f.NoInterval == nil && !f.Bound && f.Low != f.High
}

// Figure returns that of a peer in a case. It reports false where there is none.
func (s Set) Figure(c, peer, metric string) (Figure, bool) {
	return summarize(s.samples(c, peer, metric))
}

// Ratio returns a peer's figure over that of another, divided round by round. Rounds in which the
// other has nothing to divide by are left out, and so are those in which it was cut short or both
// got nowhere.
func (s Set) Ratio(c, peer, other, metric string) (Figure, bool) {
	divisors := s.samples(c, other, metric)
	ratios := make(map[int]sample)
	for round, own := range s.samples(c, peer, metric) {
		by, ok := divisors[round]
		if !ok || by.value == 0 || by.cut || own.value == Never && by.value == Never {
			continue
		}
		switch {
		case own.value == Never:
		case by.value == Never:
			own.value = 0
		default:
			own.value /= by.value
		}
		ratios[round] = own
	}
	return summarize(ratios)
}

// sample is what one round has measured.
type sample struct {
	value float64
	cut   bool
}

func (s Set) samples(c, peer, metric string) map[int]sample {
	byRound := make(map[int]sample)
	for _, r := range s {
		if r.Case != c || r.Peer != peer {
			continue
		}
		if value, ok := r.Values[metric]; ok {
			byRound[r.Round] = sample{value, r.Values[CutShort] != 0}
		}
	}
	return byRound
}

func summarize(byRound map[int]sample) (Figure, bool) {
	var values []float64
	f := Figure{Runs: len(byRound)}
	for _, one := range byRound {
		values = append(values, one.value)
		f.Bound = f.Bound || one.cut
	}
	if len(values) == 0 {
		return Figure{}, false
	}
	s := summaryOf(values)
	f.Median, f.Low, f.High = s.Center, s.Lo, s.Hi
	if len(s.Warnings) > 0 {
		f.NoInterval = s.Warnings[0]
	}
	return f, true
}

// Median returns the median of values, of which there is at least one.
func Median(values []float64) float64 { return summaryOf(slices.Clone(values)).Center }

// Percentile returns the value below which the given percentage of values is. They are sorted, and there is at least one.
func Percentile(sorted []float64, percent int) float64 { return sorted[len(sorted)*percent/100] }

// summaryOf sorts values.
func summaryOf(values []float64) benchmath.Summary {
	s := benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds), Confidence)
	// Between a time and never there is no middle.
	if values[len(values)/2] == Never {
		s.Center = Never
	}
	return s
}
