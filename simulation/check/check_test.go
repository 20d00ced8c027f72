package check

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

var began = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return began.Add(time.Duration(seconds * float64(time.Second)))
}

var (
	first  = Instance{ID: "first", Name: "shop-0", Process: "server 0", Addr: "10.0.0.1:80", Methods: []string{"Who"}, Tells: true, Marks: true}
	second = Instance{ID: "second", Process: "server 1", Addr: "10.0.0.2:80", Methods: []string{"Who"}, Tells: true, Marks: true}
	third  = Instance{ID: "third", Process: "server 2", Addr: "10.0.0.3:80", Methods: []string{"Who"}, Tells: true, Marks: true}
)

// judge returns a judge of two instances, which have both answered the caller at second 8.
func judge() *Judge {
	j := New(began)
	j.Up(at(0), first)
	j.Up(at(0), second)
	register(0, first, second)(j)
	j.Call(call(answeredBy("first"), begin(8)))
	j.Call(call(answeredBy("second"), begin(8)))
	return j
}

// call returns a call at second 10 that fails with Unavailable, though both instances are known, unless a change says otherwise.
func call(changes ...func(*Call)) Call {
	addrs := []string{first.Addr, second.Addr}
	c := Call{Caller: "caller 0", Conn: "shop", Service: "shop", Method: "Who", Code: codes.Unavailable, Known: addrs, Settled: true}
	begin(10)(&c)
	for _, change := range changes {
		change(&c)
	}
	return c
}

func begin(seconds float64) func(*Call) {
	return func(c *Call) { c.Begin, c.End = at(seconds), at(seconds+0.01) }
}

func answeredBy(life string) func(*Call) {
	return func(c *Call) { c.Code, c.From = codes.OK, life }
}

func code(code codes.Code) func(*Call)    { return func(c *Call) { c.Code = code } }
func target(instance string) func(*Call)  { return func(c *Call) { c.Target = instance } }
func drained(names ...string) func(*Call) { return func(c *Call) { c.Drained = names } }
func known(addrs ...string) func(*Call)   { return func(c *Call) { c.Known = addrs } }
func subset(n int) func(*Call)            { return func(c *Call) { c.Subset = n } }
func method(name string) func(*Call)      { return func(c *Call) { c.Method = name } }
func longest(seconds float64) func(*Call) {
	return func(c *Call) { c.Longest = time.Duration(seconds * float64(time.Second)) }
}
func waits(seconds float64) func(*Call) {
	return func(c *Call) { c.Waits = time.Duration(seconds * float64(time.Second)) }
}
func said(text string) func(*Call)     { return func(c *Call) { c.Err = text } }
func nowhere(c *Call)                  { c.Nowhere = true }
func unsettled(c *Call)                { c.Settled = false }
func ejects(c *Call)                   { c.Ejects = true }
func abroad(c *Call)                   { c.Code, c.From, c.Abroad = codes.OK, "away server 0, life 1", true }
func spills(c *Call)                   { c.Spills = true }
func routed(c *Call)                   { c.Routed = true }
func mustCross(c *Call)                { c.MustCross = true }
func deaf(seconds float64) func(*Call) { return func(c *Call) { c.Deaf = at(seconds) } }

// register puts the entries of instances in etcd.
func register(seconds float64, instances ...Instance) func(*Judge) {
	return func(j *Judge) {
		for _, i := range instances {
			j.Entry(at(seconds), int64(1000*seconds), "shop/"+i.ID, Entry{Service: "shop", Addr: i.Addr, Names: []string{i.Name}, Tells: true})
		}
	}
}

// vanish takes the entries of instances out of etcd.
func vanish(seconds float64, instances ...Instance) func(*Judge) {
	return func(j *Judge) {
		for _, i := range instances {
			j.Entry(at(seconds), int64(1000*seconds), "shop/"+i.ID, Entry{})
		}
	}
}

// mark has the entries of instances say that they leave.
func mark(seconds float64, instances ...Instance) func(*Judge) {
	return func(j *Judge) {
		for _, i := range instances {
			j.Entry(at(seconds), int64(1000*seconds), "shop/"+i.ID, Entry{Service: "shop", Leaving: true})
		}
	}
}

// inOrder does several things before a call.
func inOrder(all ...func(*Judge)) func(*Judge) {
	return func(j *Judge) {
		for _, do := range all {
			do(j)
		}
	}
}

func TestCall(t *testing.T) {
	deadline := code(codes.DeadlineExceeded)
	unimplemented := code(codes.Unimplemented)
	both := func(do func(*Judge, Instance)) func(*Judge) {
		return func(j *Judge) { do(j, first); do(j, second) }
	}
	leave := func(j *Judge) { j.Leave(at(9), "first", true) }
	join := func(j *Judge) { j.Up(at(9), third); register(9, third)(j) }
	newer := func(j *Judge) {
		l := *j.lives["first"]
		l.ID, l.Methods = "first, life 2", []string{"Who", "Newer"}
		j.Down(at(9), "first", false)
		j.Up(at(9.1), l.Instance)
		j.answered(call(answeredBy(l.ID), func(c *Call) { c.Begin, c.End = at(9.6), at(9.7) }))
	}
	stall := both(func(j *Judge, i Instance) { j.Link(at(9), "caller 0", i.Process, false, true) })
	for name, test := range map[string]struct {
		before func(*Judge)
		call   Call
		want   Rule // "": no problem
	}{
		"nowhere to go, and not why":              {call: call(known(), nowhere, said("deadline exceeded")), want: Told},
		"nowhere to go, but for a moment":         {before: vanish(10, first, second), call: call(known(), nowhere, said("deadline exceeded"), func(c *Call) { c.MayFail = true })},
		"nowhere to go, and why":                  {call: call(known(), nowhere, said("no endpoint is registered under \"shop\""))},
		"answered":                                {call: call(answeredBy("first"))},
		"answered within the timeout":             {call: call(answeredBy("first"), longest(0.01))},
		"answered after the timeout":              {call: call(answeredBy("first"), longest(0.01), func(c *Call) { c.End = at(11) }), want: Timeouts},
		"answered by nobody's life":               {call: call(answeredBy("third")), want: NeverWas},
		"answered by a life that had ended":       {func(j *Judge) { j.Down(at(9), "first", false) }, call(answeredBy("first")), NeverWas},
		"answered by a life that has just ended":  {func(j *Judge) { j.Down(at(10), "first", false) }, call(answeredBy("first")), ""},
		"answered by another than the target":     {call: call(answeredBy("second"), target("shop-0")), want: Target},
		"answered by the target":                  {call: call(answeredBy("first"), target("shop-0"))},
		"answered by a drained one":               {call: call(answeredBy("first"), drained("shop-0")), want: Gone},
		"answered by a drained one, all drained":  {drain(9, "shop-0", second.Addr), call(answeredBy("first"), drained("shop-0", second.Addr)), ""},
		"answered by a drained one, just drained": {call: call(answeredBy("first"), drained("shop-0"), unsettled)},
		"answered by a drained target":            {call: call(answeredBy("first"), drained("shop-0"), target("shop-0"))},
		"answered by one that has left":           {inOrder(leave, vanish(3.9, first)), call(answeredBy("first")), Gone},
		"answered by one that is leaving":         {leave, call(answeredBy("first")), ""},

		"unimplemented":                    {call: call(unimplemented), want: Unserved},
		"unimplemented, outside lanes":     {call: call(unimplemented, func(c *Call) { c.Routed = true })},
		"unimplemented, another is untold": {func(j *Judge) { j.lives["second"].Tells = false }, call(unimplemented), ""},
		"unimplemented, an entry has ceased to tell": {
			func(j *Judge) {
				j.Entry(at(9), 9000, "shop/second", Entry{Service: "shop", Addr: second.Addr, Names: []string{second.Name}})
			}, call(unimplemented), "",
		},
		"unimplemented, an entry tells again": {inOrder(func(j *Judge) {
			j.Entry(at(9), 9000, "shop/second", Entry{Service: "shop", Addr: second.Addr, Names: []string{second.Name}})
		}, register(9.2, second)), call(unimplemented), Unserved},
		"unimplemented, served by none":        {call: call(unimplemented, func(c *Call) { c.Method = "Other" })},
		"an error that the network has not":    {call: call(code(codes.Internal)), want: Failed},
		"failed":                               {call: call(), want: Failed},
		"failed, none is said to be known":     {call: call(known(), begin(20)), want: Forgotten},
		"failed, one may be ejected":           {call: call(ejects), want: Failed},
		"failed, the only one may be ejected":  {leave, call(ejects), ""},
		"failed, etcd has long had none":       {vanish(5, first, second), call(), ""},
		"failed, all leave":                    {both(func(j *Judge, i Instance) { j.Leave(at(9), i.ID, true) }), call(), ""},
		"failed, all are drained":              {drain(9, "shop-0", second.Addr), call(), ""},
		"failed, all were drained lately":      {undrained(-6.9), call(), ""},
		"failed, all were drained long ago":    {undrained(-7.1), call(), Failed},
		"failed, the subset may be another":    {join, call(subset(1)), ""},
		"failed, the subset is larger":         {join, call(subset(2)), Failed},
		"failed, the subset may have left":     {leave, call(subset(1)), ""},
		"failed, one was killed just before":   {func(j *Judge) { j.Down(at(9.95), "second", true) }, call(), ""},
		"failed, not the target was killed":    {func(j *Judge) { j.Down(at(9.95), "second", true) }, call(target("shop-0")), Failed},
		"failed, one unknown was killed":       {func(j *Judge) { j.Up(at(9), third); j.Down(at(9.95), "third", true) }, call(), Failed},
		"failed, one was killed long before":   {func(j *Judge) { j.Down(at(9), "second", true) }, call(), Failed},
		"failed, a link has just changed":      {func(j *Judge) { j.Link(at(10), "server 1", "caller 0", false, false) }, call(), ""},
		"failed, another's link has changed":   {func(j *Judge) { j.Link(at(10), "server 1", "caller 1", true, false) }, call(), Failed},
		"failed, not the target's link has":    {func(j *Judge) { j.Link(at(10), "server 1", "caller 0", false, false) }, call(target("shop-0")), Failed},
		"failed, not proven since a cut":       {both(func(j *Judge, i Instance) { j.Link(at(9), i.Process, "caller 0", false, false) }), call(), ""},
		"failed, not proven since it vanished": {inOrder(vanish(9, first, second), register(9.1, first, second)), call(), ""},
		"failed, just back, and not known":     {inOrder(vanish(7, first, second), register(7.1, first, second)), call(known()), ""},
		"failed, just back, but known":         {inOrder(vanish(7, first, second), register(7.1, first, second)), call(), Failed},
		"failed, gone while it hears nothing":  {vanish(9, first, second), call(known(), deaf(8.5), begin(20)), Forgotten},
		"failed, back and gone while it hears nothing": {
			inOrder(vanish(6, first, second), register(6.5, first, second), vanish(9, first, second)), call(deaf(6.2)), "",
		},
		"failed, gone before it hears nothing": {vanish(8.2, first, second), call(known(), deaf(8.5), begin(20)), ""},
		"failed, a method that it cannot know": {newer, call(deaf(8.5), begin(10.5), method("Newer")), ""},
		"failed, a method that it can know":    {newer, call(deaf(9.5), begin(10.5), method("Newer")), Failed},
		"failed, the target is known":          {call: call(target("shop-0")), want: Failed},
		"failed, the target has another name": {
			func(j *Judge) {
				j.Entry(at(9), 9000, "shop/first", Entry{Service: "shop", Addr: first.Addr, Names: []string{"shop-3"}})
			}, call(target("shop-0")), "",
		},
		"timed out":                    {call: call(deadline), want: Failed},
		"timed out, a link is stalled": {func(j *Judge) { j.Link(at(9), "server 1", "caller 0", false, true) }, call(deadline), ""},
		"timed out, a link was stalled before the caller began anew": {func(j *Judge) {
			j.Link(at(8), "server 1", "caller 0", false, true)
			j.Begin("caller 0")
		}, call(deadline), Failed},
		"timed out, not to the target": {
			func(j *Judge) { j.Link(at(9), "server 1", "caller 0", false, true) }, call(deadline, target("shop-0")), Failed,
		},
		"timed out, a stalled link was reset": {func(j *Judge) {
			j.Link(at(9), "server 1", "caller 0", false, true)
			j.Reset(at(9.1), "server 1", "caller 0")
		}, call(deadline), ""},
		"failed, a link is stalled": {func(j *Judge) { j.Link(at(9), "server 1", "caller 0", false, true) }, call(), Failed},

		"all vanish":                {vanish(9, first, second), call(), Forgotten},
		"all vanish, one has left":  {inOrder(leave, vanish(9, first, second)), call(), Forgotten},
		"all vanish, all have left": {inOrder(both(func(j *Judge, i Instance) { j.Leave(at(9), i.ID, true) }), vanish(9, first, second)), call(), ""},
		"all vanish, all are coming back": {
			inOrder(vanish(9, first, second), both(func(j *Judge, i Instance) { j.Leave(at(9.1), i.ID, false) })), call(), "",
		},
		"all leave, late": {
			inOrder(both(func(j *Judge, i Instance) { j.Leave(at(8.5), i.ID, false) }), mark(8.9, first, second), vanish(9, first, second)), call(), "",
		},
		"all vanish, one after the other":           {inOrder(vanish(8.5, first), vanish(9, second)), call(), Forgotten},
		"all vanish, the last one has ended":        {inOrder(vanish(8.5, first), vanish(9, second), func(j *Judge) { j.Down(at(9.5), "second", false) }), call(), ""},
		"all vanish, long ago":                      {vanish(9, first, second), call(begin(14)), ""},
		"all vanish, just after they came back":     {inOrder(vanish(7, first, second), register(7.1, first, second), vanish(9, first, second)), call(known()), ""},
		"another region, while home serves":         {call: call(abroad), want: AtHome},
		"another region, for home has left":         {vanish(9, first, second), call(abroad, known(), begin(20)), ""},
		"another region, for a part":                {call: call(abroad, spills), want: ""},
		"another region, for a lane":                {call: call(abroad, routed), want: ""},
		"another region, and an instance was named": {call: call(abroad, target(first.Addr)), want: Target},
		"failed, and another region has somebody":   {vanish(9, first, second), call(known(), nowhere, said("shop"), mustCross, begin(20)), Crosses},
		"all vanish, and can no longer be used":     {inOrder(stall, vanish(9, first, second)), call(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			j := judge()
			if test.before != nil {
				test.before(j)
			}
			j.Call(test.call)
			expect(t, j, test.want)
		})
	}
}

func drain(seconds float64, names ...string) func(*Judge) {
	return func(j *Judge) { j.Drain(at(seconds), names...) }
}

// undrained drains both instances until a time.
func undrained(seconds float64) func(*Judge) {
	return func(j *Judge) {
		drain(seconds-1, "shop-0", second.Addr)(j)
		drain(seconds)(j)
	}
}

func TestPut(t *testing.T) {
	for name, test := range map[string]struct {
		hosts string
		every float64 // seconds
		want  Rule
	}{
		"one host":               {"aaaaaaaa", 1, ""},
		"four changes":           {"ababa", 1, ""},
		"five changes":           {"ababab", 1, Fight},
		"five changes, but slow": {"ababab", 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			j := New(began)
			for i, host := range test.hosts {
				j.Put(at(float64(i)*test.every), "key", string(host))
			}
			expect(t, j, test.want)
		})
	}
}

func TestRate(t *testing.T) {
	for _, row := range []struct {
		done Counts
		want Rule
	}{
		{Counts{mostRequests, mostRepeated, mostRequests, mostDials, mostLines}, ""},
		{Counts{Requests: mostRequests + 1}, Requests},
		{Counts{Repeated: mostRepeated + 1}, Requests},
		{Counts{Tokens: mostRequests + 1}, Requests},
		{Counts{Dials: mostDials + 1}, Requests},
		{Counts{Lines: mostLines + 1}, Lines},
	} {
		j := New(began)
		j.Rate(at(10), "server 0", row.done.Sub(Counts{}))
		expect(t, j, row.want)
	}
}

func TestLine(t *testing.T) {
	for name, test := range map[string]struct {
		lines int
		every float64 // seconds
		about []string
		want  Rule
	}{
		"many at once":          {mostAlike, 0, []string{"a"}, ""},
		"too many at once":      {mostAlike + 1, 0, []string{"a"}, Lines},
		"one a second":          {mostAlike + 1, 1, []string{"a"}, Lines},
		"one in three seconds":  {mostAlike + 1, 3, []string{"a"}, ""},
		"many, not of one kind": {2 * mostAlike, 0, []string{"a", "b"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			j := New(began)
			for i := range test.lines {
				j.Line(at(float64(i)*test.every), "server 0", test.about[i%len(test.about)])
			}
			expect(t, j, test.want)
		})
	}
}

func TestLineOfAnotherLife(t *testing.T) {
	j := New(began)
	for range 2 {
		for range mostAlike {
			j.Line(at(0), "server 1", "a")
		}
		j.Begin("server 1")
	}
	expect(t, j, "")
	for range mostAlike {
		j.Line(at(0), "server 0", "a")
	}
	j.Begin("server 1")
	j.Line(at(0), "server 0", "a")
	expect(t, j, Lines)
}

// expect checks that the judge has found one problem, of a rule; none if it is "".
func expect(t *testing.T, j *Judge, want Rule) {
	t.Helper()
	var found []Rule
	for _, p := range j.Problems {
		found = append(found, p.Rule)
	}
	if want == "" && found != nil || want != "" && !slices.Equal(found, []Rule{want}) {
		t.Errorf("found %q, want %q: %v", found, want, j.Problems)
	}
}

func TestReachable(t *testing.T) {
	for name, row := range map[string]struct {
		before func(*Judge)
		want   bool
	}{
		"all":                  {func(*Judge) {}, true},
		"one has ended":        {func(j *Judge) { j.Down(at(9), "first", true) }, false},
		"one has just begun":   {func(j *Judge) { j.Down(at(9), "first", true); j.Up(at(9), first) }, false},
		"one link has changed": {func(j *Judge) { j.Link(at(9), "caller 0", "server 1", false, false) }, false},
	} {
		j := judge()
		row.before(j)
		if got := j.Reachable(at(8), "caller 0", first.Addr, second.Addr); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
