package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// screen shows the events as they happen and, on a terminal, a table that stays
// below them.
type screen struct {
	out  *os.File
	demo *demo
	live bool // out is a terminal

	shown    int            // number of events shown
	tall     int            // lines of the table on the terminal
	answered map[string]int // by server, when the table was last drawn
	drawn    time.Time
}

// run draws until ctx ends, and then once more.
func (s *screen) run(ctx context.Context) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()

	for {
		select {
		case <-ctx.Done():
			s.draw(true)
			return
		case <-tick.C:
			s.draw(false)
		}
	}
}

// draw writes the new events and, on a terminal or at last, a table in place of
// the previous one.
func (s *screen) draw(last bool) {
	var page bytes.Buffer
	if s.tall > 0 {
		// up to the table's first line, clear the rest
		fmt.Fprintf(&page, "\x1b[%dA\x1b[J", s.tall)
		s.tall = 0
	}

	s.demo.mu.Lock()
	events := slices.Clone(s.demo.events[s.shown:])
	s.demo.mu.Unlock()

	for _, event := range events {
		fmt.Fprintf(&page, "%5.1f s  %s\n", event.after.Seconds(), event.text)
		s.shown++
	}

	if s.live || last {
		top := page.Len()
		s.table(&page, last)
		s.tall = bytes.Count(page.Bytes()[top:], []byte("\n"))
	}

	// If the terminal is gone, the demo goes on: its exit code still counts.
	_, _ = s.out.Write(page.Bytes())
}

// table writes a table. All but the last one have a column for the rate of
// calls.
func (s *screen) table(w io.Writer, last bool) {
	servers, total, _ := s.demo.load.snapshot()
	since := time.Since(s.drawn).Seconds()
	s.drawn = time.Now()
	columns := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprint(columns, "\ninstance\taddress\tstate\tin etcd\tcalls\terrors\t")

	if !last {
		fmt.Fprint(columns, "calls/s\t")
	}

	for _, row := range s.demo.rows() {
		count := servers[row.addr]
		fmt.Fprintf(columns, "\n%s\t%s\t%s\t%s\t%d\t%d\t",
			row.name, row.addr, row.state, row.inEtcd, count.answered, count.broken)

		if !last {
			fmt.Fprintf(columns, "%.0f\t",
				float64(count.answered-s.answered[row.addr])/since)
		}

		s.answered[row.addr] = count.answered
	}

	// Writes to memory do not fail.
	_ = columns.Flush()
	fmt.Fprintf(w, "\n\n%s   %d calls, %d made again, %d failed\n",
		s.demo.etcdLine(), total.answered+total.failed, total.broken, total.failed)
}
