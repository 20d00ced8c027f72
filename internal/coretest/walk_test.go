package coretest

import (
	"strings"
	"testing"
	"time"
	"unsafe"
)

// door is a core to walk: it may be opened, and locked while it is closed.
type door struct {
	open, locked bool
	opened       int
	at           time.Time
}

func doors() World[door] {
	shape := &Shape{Ignored: []string{"door.opened"}}
	return World[door]{
		Start: func() *door { return &door{at: time.Unix(0, 0)} },
		Copy:  func(d *door) *door { return Copy(shape, d) },
		Key:   func(d *door) string { return Key(shape, d, d.at) },
		Events: []Event[door]{
			{"open", func(d *door) bool { d.open, d.opened = true, d.opened+1; return true }},
			{"close", func(d *door) bool { could := d.open; d.open = false; return could }},
			{"lock", func(d *door) bool { d.locked = true; return true }},
			{"time passes", func(d *door) bool { d.at = d.at.Add(time.Second); return true }},
		},
	}
}

func TestWalkMergesStates(t *testing.T) {
	w := walker[door]{World: doors(), met: make([]int, 4)}
	if broken := w.walk(10); broken != "" || len(w.trail) != 4 {
		t.Errorf("%d states: %s", len(w.trail), broken)
	}
}

func TestWalkFindsTheShortest(t *testing.T) {
	locked := Rule[door]{"a locked door is closed", func(_, d *door) string {
		if d.open && d.locked {
			return "it is open"
		}
		return ""
	}}
	once := func(d *door) string {
		if d.open {
			d.open = false
			return "close"
		}
		return ""
	}
	for _, tt := range []struct {
		change func(*World[door])
		want   string
	}{
		{func(w *World[door]) { w.Rules = append(w.Rules, locked) }, "a locked door is closed: it is open\n  1. open\n  2. lock"},
		{func(w *World[door]) { w.Settle, w.Within = once, 1 }, ""},
		{func(w *World[door]) { w.Settle, w.Within = once, 0 }, "all is not well within 0 steps, but close\nonce nothing goes wrong any more, after\n  \nand before that\n  1. open"},
		{func(w *World[door]) {
			w.Settle, w.Within = func(d *door) string { d.open = true; return "open" }, 1
			w.Rules = append(w.Rules, locked)
		}, "all is not well within 1 steps, but open\nonce nothing goes wrong any more, after\n  open\nand before that"},
		{func(w *World[door]) { w.Events[2].Do = func(*door) bool { panic("stuck") } }, "the core panics: stuck\n  1. lock"},
	} {
		w := walker[door]{World: doors(), settled: make(map[key]int), met: make([]int, 4)}
		tt.change(&w.World)
		if got := w.walk(3); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// tree has all that a shape tells apart.
type tree struct {
	left, right *tree
	up          *tree
	byName      map[string]*tree
	list        []any
	at          time.Time
	rev, count  int64
	err         error
	more        [2][]int
	plan        *immutable
	call        func()
}

type immutable struct{ name string }

func TestShape(t *testing.T) {
	shape := &Shape{Ranked: map[string]string{"tree.rev": "rev"}, Counted: map[string]string{"tree.count": "count"}, Old: time.Minute}
	Name(shape, func(i *immutable) string { return i.name })
	now := time.Unix(100, 0)
	grown := func() *tree {
		n := &tree{rev: 5, at: now.Add(-time.Second), plan: &immutable{"p"}, call: func() {}}
		n.left, n.right = &tree{up: n, rev: 3, count: 1}, &tree{up: n, rev: 9, count: 3}
		n.byName = map[string]*tree{"l": n.left, "r": n.right}
		n.list = []any{1, "x", n.left, immutable{"y"}, []int{4}}
		n.more[1] = []int{1, 2}
		return n
	}
	key := func(n *tree) string { return Key(shape, n, now) }
	n := grown()
	want := key(n)
	c := Copy(shape, n)
	if key(c) != want || c.left == n.left || c.left.up != c || c.byName["l"] != c.left || c.list[2] != c.left || c.plan != n.plan {
		t.Errorf("the copy is %+v", c)
	}
	for name, tt := range map[string]struct {
		change func(*tree)
		same   bool
	}{
		"another pointer":        {func(n *tree) { n.list[2] = n.right }, false},
		"a deep field":           {func(n *tree) { n.left.plan = &immutable{"q"} }, false},
		"an element":             {func(n *tree) { n.more[1][0] = 7 }, false},
		"a map's":                {func(n *tree) { delete(n.byName, "l") }, false},
		"a later instant":        {func(n *tree) { n.at = now }, false},
		"a value in an any":      {func(n *tree) { n.list[0] = 2 }, false},
		"a slice in an any":      {func(n *tree) { n.list[4].([]int)[0]++ }, false},
		"another order":          {func(n *tree) { n.rev = 10 }, false},
		"the same order":         {func(n *tree) { n.rev, n.right.rev = 6, 100 }, true},
		"another distance":       {func(n *tree) { n.left.count = 2 }, false},
		"the same distance":      {func(n *tree) { n.left.count, n.right.count = 11, 13 }, true},
		"a count that is none":   {func(n *tree) { n.left.count, n.right.count = 0, 2 }, false},
		"an equal name":          {func(n *tree) { n.plan = &immutable{"p"} }, true},
		"a function":             {func(n *tree) { n.call = nil }, true},
		"an error, if not which": {func(n *tree) { n.err = oddError("x") }, false},
	} {
		changed := grown()
		copied := Copy(shape, changed)
		tt.change(changed)
		if same := key(changed) == want; same != tt.same {
			t.Errorf("%s: the same: %v", name, same)
		}
		if key(copied) != want {
			t.Errorf("%s: a copy changed with it", name)
		}
	}
	if a, b := Key(shape, n, now.Add(time.Hour)), Key(shape, n, now.Add(2*time.Hour)); a != b {
		t.Error("old instants differ")
	}
}

type oddError string

func (e oddError) Error() string { return string(e) }

func TestShapeRefuses(t *testing.T) {
	defer func() {
		if r, _ := recover().(string); !strings.Contains(r, "UnsafePointer") && !strings.Contains(r, "unsafe.Pointer") {
			t.Errorf("%q", r)
		}
	}()
	Key(new(Shape), &struct{ p unsafe.Pointer }{}, time.Time{})
}
