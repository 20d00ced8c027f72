package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/gdamore/tcell/v3"
)

// screen shows a watch on a terminal.
type screen struct {
	watch  *watch
	follow func(context.Context) error // the watch's, or a test's
	views  chan *view
	notes  chan string

	mu     sync.Mutex
	window window // written by the goroutine that draws
}

func newScreen(w *watch) *screen {
	s := &screen{watch: w, follow: w.run, views: make(chan *view), notes: make(chan string, 1)}
	w.refresh, w.wanted = true, s.leases
	return s
}

// leases returns those of the rows that are shown.
func (s *screen) leases(v *view) []int64 {
	var shown []int64
	for _, service := range v.services {
		all := slices.Concat(service.Instances, service.Malformed)
		from, to, _ := s.shown().rows(len(all))
		for _, i := range all[from:to] {
			if i.Entry.Lease != 0 {
				shown = append(shown, i.Entry.Lease)
			}
		}
	}
	slices.Sort(shown)
	return slices.Compact(shown)
}

func (s *screen) shown() window {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.window
}

func (s *screen) change(how func(*window)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	how(&s.window)
}

// outcome is how following ended.
type outcome struct {
	err      error
	panicked any
	stack    []byte
}

// run ends with ctx, at the user's wish or with the first look, if that fails. It gives the terminal back as it was,
// whatever ends it.
func (s *screen) run(ctx context.Context, out *os.File) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tty, err := ttyOf(out)
	if err != nil {
		return noScreen(err)
	}
	if size, err := tty.WindowSize(); err == nil {
		s.window.width, s.window.height = size.Width, size.Height
	}
	ended := make(chan outcome, 1)
	s.watch.show = func(v *view) error {
		select {
		case s.views <- v:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.watch.say = func(err error) {
		select {
		case s.notes <- err.Error():
		case <-ctx.Done():
		}
	}
	go func() {
		var end outcome
		defer func() {
			if end.panicked = recover(); end.panicked != nil {
				end.stack = debug.Stack()
			}
			ended <- end
		}()
		end.err = s.follow(ctx)
	}()
	end, err := s.draw(ctx, tty, ended)
	cancel()
	if end == nil {
		end = &outcome{}
		*end = <-ended
		end.err = err // not that of being ended
	}
	if end.panicked != nil {
		panic(fmt.Sprintf("%v\n\n%s", end.panicked, end.stack))
	}
	return end.err
}

// draw draws views until ctx or the user ends it, or the following ends, whose outcome it then returns.
func (s *screen) draw(ctx context.Context, tty tcell.Tty, ended <-chan outcome) (*outcome, error) {
	var last *view
	select { // nothing is drawn over what is there before there is something to show
	case last = <-s.views:
	case end := <-ended:
		return &end, nil
	}
	display, err := tcell.NewTerminfoScreenFromTty(tty, tcell.OptNegotiation(false), tcell.OptSanitizeContent(true))
	if err == nil {
		err = display.Init()
	}
	if err != nil {
		return nil, noScreen(err)
	}
	defer display.Fini()
	for {
		s.paint(display, last)
		select {
		case last = <-s.views:
			s.change(func(w *window) { w.note = "" })
		case note := <-s.notes:
			s.change(func(w *window) { w.note = note })
		case event := <-display.EventQ():
			if key, ok := event.(*tcell.EventKey); ok && s.press(key, last) {
				return nil, nil
			}
		case end := <-ended:
			return &end, nil
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// press does what a key asks for, and reports whether that is to end.
func (s *screen) press(event *tcell.EventKey, v *view) (quit bool) {
	total := len(v.rows())
	from, to, _ := s.shown().rows(total)
	switch event.Key() {
	case tcell.KeyCtrlC:
		return true
	case tcell.KeyRune:
		return event.Str() == "q"
	case tcell.KeyUp:
		from--
	case tcell.KeyDown:
		from++
	case tcell.KeyPgUp:
		from -= to - from
	case tcell.KeyPgDn:
		from = to
	case tcell.KeyHome:
		from = 0
	case tcell.KeyEnd:
		from = total
	}
	s.change(func(w *window) {
		w.offset = from
		w.offset, _, _ = w.rows(total)
	})
	return false
}

// paint draws a view, of which only what differs from before is sent to the terminal.
func (s *screen) paint(display tcell.Screen, v *view) {
	width, height := display.Size()
	s.change(func(w *window) { w.width, w.height = width, height })
	display.Clear()
	for y, line := range frame(v, s.watch.key, time.Now(), s.shown()) {
		display.PutStr(0, y, line)
	}
	display.Show()
}

// ttyOf returns the terminal that a file is.
func ttyOf(out *os.File) (tcell.Tty, error) {
	if out == os.Stdout {
		return tcell.NewDevTty()
	}
	return tcell.NewDevTtyFromDev(out.Name())
}

func noScreen(err error) error {
	return fmt.Errorf("draw on the terminal: %w; into a pipe, watch writes lines", err)
}
