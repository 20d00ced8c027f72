package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// limits are what a caller stays under, whatever is written.
type limits struct {
	memory    float64 // of what it takes undisturbed
	processor float64 // of a core, more than undisturbed
	lines     float64 // of the log a second
	heard     time.Duration
}

// bounds are the limits that the project promises.
var bounds = limits{memory: 1.5, processor: 0.2, lines: 1, heard: 2 * time.Second}

// patience is how long a caller may take to start.
const patience = 30 * time.Second

// visitTimeout is how long news of an honest instance may take before it is given up.
const visitTimeout = 10 * time.Second

// times are how long the phases of a way take.
type times struct {
	start  time.Duration // from when every honest service has answered; 0: no second caller is started
	calm   time.Duration
	attack time.Duration
}

// result is what was measured of a way.
type result struct {
	Way, Finding, What string
	Err                string // the run could not be had, or the caller ended

	Puts, Bytes int64 // that etcd took
	Calls       int
	Failed      int
	FirstErr    string
	CalmKiB     int     // peak of the memory, undisturbed
	PeakKiB     int     // and beside the writer
	Processor   float64 // cores, more than undisturbed
	Lines       float64 // a second
	Descriptors int
	Heard       time.Duration // until a change of another service was known, at the worst
	Unheard     string
	Crowded     bool // so that nothing is promised of Heard

	// Of a second caller, started beside what was written.
	AgainKiB    int
	AgainFailed int

	Sample []string // lines of the log
}

// Memory is the peak beside the writer, of whichever caller has more, as a multiple of that without it.
func (r result) Memory() float64 {
	return float64(max(r.PeakKiB, r.AgainKiB)) / float64(max(1, r.CalmKiB))
}

// column is a part of a result that has a limit.
type column struct {
	name, text string
	within     bool
}

// columns are those of the page.
func (r result) columns(l limits) []column {
	failed := r.Failed + r.AgainFailed
	calls := fmt.Sprintf("%d of %d", failed, r.Calls)
	if r.Err != "" {
		line, _, _ := strings.Cut(r.Err, "\n")
		calls += "; " + line
	}
	heard := fmt.Sprint(r.Heard.Round(10 * time.Millisecond))
	if r.Unheard != "" {
		heard = fmt.Sprintf("not in %v", visitTimeout)
	}
	return []column{
		{"failed calls", calls, failed == 0 && r.Err == ""},
		{"memory", fmt.Sprintf("%d to %d MiB, x %.2f", r.CalmKiB>>10, max(r.PeakKiB, r.AgainKiB)>>10, r.Memory()), r.Memory() < l.memory},
		{"cores", fmt.Sprintf("%.2f", max(0, r.Processor)), r.Processor < l.processor}, // below zero is noise
		{"log lines a second", fmt.Sprintf("%.1f", r.Lines), r.Lines < l.lines},
		{"descriptors", fmt.Sprint(r.Descriptors), r.Descriptors < descriptorLimit},
		{"heard", heard, r.Crowded || r.Heard < l.heard && r.Unheard == ""},
	}
}

// excess says which limits do not hold.
func (r result) excess(l limits) (found []string) {
	for _, c := range r.columns(l) {
		if !c.within {
			found = append(found, c.name+": "+c.text)
		}
	}
	return found
}

// details say more of what is over a limit.
func (r result) details() string {
	all := append([]string{r.Err, r.FirstErr, r.Unheard}, r.Sample...)
	return strings.Join(slices.DeleteFunc(all, func(line string) bool { return line == "" }), "\n")
}

// String is a result on a line.
func (r result) String() string {
	text := fmt.Sprintf("%-24s %6d puts %6.1f MB", r.Way, r.Puts, float64(r.Bytes)/1e6)
	for _, c := range r.columns(bounds) {
		text += fmt.Sprintf(" | %s %s", c.name, c.text)
	}
	return text
}

// run measures a way.
func (w *world) run(ctx context.Context, way way, t times) (r result) {
	r = result{Way: way.name, Finding: way.row, What: way.what, Crowded: way.crowded}
	if err := w.try(ctx, way, t, &r); err != nil {
		r.Err = strings.TrimSpace(err.Error())
	}
	w.traps.drop()
	if err := w.clean(); err != nil && r.Err == "" {
		r.Err = fmt.Sprintf("clean up: %v", err)
	}
	return r
}

func (w *world) try(ctx context.Context, way way, t times, r *result) error {
	a, err := w.newAttack()
	if err != nil {
		return err
	}
	defer a.close()
	etcd := strings.TrimPrefix(w.etcd.Config().Endpoints[0], "http://")
	if way.link {
		if a.link, err = w.traps.newLink(etcd); err != nil {
			return err
		}
		defer a.link.lis.Close()
		etcd = a.link.lis.Addr().String()
	}
	p, err := w.startCaller(way, etcd, false)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := p.awaitReady(); err != nil {
		return err
	}
	pause(ctx, t.start)
	if err := w.disturb(ctx, way, a, p, t, r); err != nil {
		return err
	}
	if way.passing || t.start == 0 {
		return nil
	}
	p.stop()
	return w.again(ctx, way, a, etcd, t, r)
}

// disturb measures the caller undisturbed, and then beside the writer.
func (w *world) disturb(ctx context.Context, way way, a *attack, p *process, t times, r *result) error {
	calm, err := p.measure(ctx, t.calm)
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, t.attack)
	defer stop()
	var writing sync.WaitGroup
	writing.Go(func() { way.write(ctx, a) })
	writing.Go(func() { r.Heard, r.Unheard = w.visits(ctx, p) })
	m, err := p.measure(ctx, t.attack)
	stop()
	writing.Wait()
	r.Puts, r.Bytes = a.puts.Load(), a.bytes.Load()
	if err != nil {
		return err
	}
	r.CalmKiB, r.PeakKiB, r.Processor, r.Descriptors = calm.peak, m.peak, m.beyond(calm), m.descriptors
	r.Calls, r.Failed, r.FirstErr = m.Calls, m.Failed, m.FirstErr
	r.Lines, r.Sample = float64(m.Lines)/m.took.Seconds(), m.Sample
	return a.failure()
}

// again starts a caller beside what was written.
func (w *world) again(ctx context.Context, way way, a *attack, etcd string, t times, r *result) error {
	if way.slowStart {
		a.link.slow.Store(true)
	}
	p, err := w.startCaller(way, etcd, true)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := p.awaitReady(); err != nil {
		return fmt.Errorf("started beside it: %w", err)
	}
	if way.slowStart {
		listing, stop := context.WithTimeout(ctx, t.attack)
		defer stop()
		var heard time.Duration
		heard, r.Unheard = w.visits(listing, p)
		r.Heard = max(r.Heard, heard)
	} else {
		pause(ctx, t.start)
	}
	u, err := p.usage()
	if err != nil {
		return err
	}
	c, err := p.count()
	r.AgainKiB, r.AgainFailed = u.peak, c.Failed
	if r.FirstErr == "" {
		r.FirstErr = c.FirstErr
	}
	return err
}

// visits has honest instances of other services come and go until ctx ends.
func (w *world) visits(ctx context.Context, p *process) (worst time.Duration, unheard string) {
	for n := range ticks(ctx, time.Second) {
		visit, cancel := context.WithTimeout(context.WithoutCancel(ctx), visitTimeout)
		took, err := w.visit(visit, n, p)
		cancel()
		if err != nil {
			return worst, err.Error()
		}
		worst = max(worst, took)
	}
	return worst, ""
}

// measurement is what a caller took for a while.
type measurement struct {
	Counts
	took        time.Duration
	processor   time.Duration
	peak        int // KiB
	descriptors int // the most
}

// measure looks at the caller for a time.
func (p *process) measure(ctx context.Context, d time.Duration) (m measurement, err error) {
	if _, err := p.count(); err != nil {
		return m, err
	}
	p.stderr.take()
	if err := p.resetPeak(); err != nil {
		return m, err
	}
	first, err := p.usage()
	if err != nil {
		return m, err
	}
	last := first
	ctx, stop := context.WithTimeout(ctx, d)
	defer stop()
	for range ticks(ctx, 50*time.Millisecond) {
		u, err := p.usage()
		if err != nil {
			return m, errors.Join(p.failure(), err)
		}
		last = u
		m.descriptors = max(m.descriptors, u.descriptors)
	}
	m.took, m.peak = last.at.Sub(first.at), last.peak
	m.processor = last.processor - first.processor
	m.Counts, err = p.count()
	m.Lines += p.stderr.take()
	return m, err
}

// beyond is how many cores more are used than in calm. A busy machine makes fewer calls, which take less.
func (m measurement) beyond(calm measurement) float64 {
	usual := calm.processor.Seconds() * float64(m.Calls) / float64(max(1, calm.Calls))
	return (m.processor.Seconds() - usual) / m.took.Seconds()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
