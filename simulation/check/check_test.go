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
	j.Call(call(answeredBy("first"), begin(8)))
	j.Call(call(answeredBy("second"), begin(8)))
	return j
}

// call returns a call at second 10 that fails with Unavailable, though both instances are known, unless a change says otherwise.
func call(changes ...func(*Call)) Call {
	addrs := []string{first.Addr, second.Addr}
	c := Call{Caller: "caller 0", Conn: "shop", Method: "Who", Code: codes.Unavailable, Known: addrs, Registered: addrs, Lately: addrs, Settled: true}
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

func code(code codes.Code) func(*Call)      { return func(c *Call) { c.Code = code } }
func target(instance string) func(*Call)    { return func(c *Call) { c.Target = instance } }
func drained(names ...string) func(*Call)   { return func(c *Call) { c.Drained = names } }
func known(addrs ...string) func(*Call)     { return func(c *Call) { c.Known = addrs } }
func registered(addr ...string) func(*Call) { return func(c *Call) { c.Registered = addr } }
func lately(addrs ...string) func(*Call)    { return func(c *Call) { c.Lately = addrs } }
func subset(n int) func(*Call)              { return func(c *Call) { c.Subset = n } }
func held(c *Call)                          { c.Held = true }
func unsettled(c *Call)                     { c.Settled = false }

func TestCall(t *testing.T) {
	deadline := code(codes.DeadlineExceeded)
	unimplemented := code(codes.Unimplemented)
	both := func(do func(*Judge, Instance)) func(*Judge) {
		return func(j *Judge) { do(j, first); do(j, second) }
	}
	leave := func(j *Judge) { j.Leave(at(9), "first", true) }
	stall := both(func(j *Judge, i Instance) { j.Link(at(9), "caller 0", i.Process, false, true) })
	for name, test := range map[string]struct {
		before func(*Judge)
		call   Call
		want   Rule // "": no problem
	}{
		"answered":                                {call: call(answeredBy("first"))},
		"answered by nobody's life":               {call: call(answeredBy("third")), want: NeverWas},
		"answered by a life that had ended":       {func(j *Judge) { j.Down(at(9), "first", false) }, call(answeredBy("first")), NeverWas},
		"answered by a life that has just ended":  {func(j *Judge) { j.Down(at(10), "first", false) }, call(answeredBy("first")), ""},
		"answered by another than the target":     {call: call(answeredBy("second"), target("shop-0")), want: Target},
		"answered by the target":                  {call: call(answeredBy("first"), target("shop-0"))},
		"answered by a drained one":               {call: call(answeredBy("first"), drained("shop-0")), want: Gone},
		"answered by a drained one, all drained":  {drain(9, "shop-0", second.Addr), call(answeredBy("first"), drained("shop-0", second.Addr)), ""},
		"answered by a drained one, just drained": {call: call(answeredBy("first"), drained("shop-0"), unsettled)},
		"answered by a drained target":            {call: call(answeredBy("first"), drained("shop-0"), target("shop-0"))},
		"answered by one that has left":           {leave, call(answeredBy("first"), lately(second.Addr)), Gone},
		"answered by one that is leaving":         {leave, call(answeredBy("first")), ""},

		"unimplemented":                      {call: call(unimplemented), want: Unserved},
		"unimplemented, another is untold":   {func(j *Judge) { j.lives["second"].Tells = false }, call(unimplemented), ""},
		"unimplemented, served by none":      {call: call(unimplemented, func(c *Call) { c.Method = "Other" })},
		"an error that the network has not":  {call: call(code(codes.Internal)), want: Failed},
		"failed":                             {call: call(), want: Failed},
		"failed, none is known":              {call: call(known())},
		"failed, etcd has none":              {call: call(registered(), lately())},
		"failed, some are held":              {call: call(held)},
		"failed, all leave":                  {both(func(j *Judge, i Instance) { j.Leave(at(9), i.ID, true) }), call(), ""},
		"failed, all are drained":            {drain(9, "shop-0", second.Addr), call(), ""},
		"failed, all were drained lately":    {undrained(-6.9), call(), ""},
		"failed, all were drained long ago":  {undrained(-7.1), call(), Failed},
		"failed, the subset may be in doubt": {leave, call(subset(1)), ""},
		"failed, part of the subset is not":  {leave, call(subset(2)), Failed},
		"failed, one was killed just before": {func(j *Judge) { j.Down(at(9.95), "second", true) }, call(), ""},
		"failed, not the target was killed":  {func(j *Judge) { j.Down(at(9.95), "second", true) }, call(target("shop-0")), Failed},
		"failed, one unknown was killed":     {func(j *Judge) { j.Up(at(9), third); j.Down(at(9.95), "third", true) }, call(), Failed},
		"failed, one was killed long before": {func(j *Judge) { j.Down(at(9), "second", true) }, call(), Failed},
		"failed, a link has just changed":    {func(j *Judge) { j.Link(at(10), "server 1", "caller 0", false, false) }, call(), ""},
		"failed, another's link has changed": {func(j *Judge) { j.Link(at(10), "server 1", "caller 1", true, false) }, call(), Failed},
		"failed, not the target's link has":  {func(j *Judge) { j.Link(at(10), "server 1", "caller 0", false, false) }, call(target("shop-0")), Failed},
		"failed, not proven since a cut":     {both(func(j *Judge, i Instance) { j.Link(at(9), i.Process, "caller 0", false, false) }), call(), ""},
		"failed, not proven since it vanished": {
			both(func(j *Judge, i Instance) { j.Absent(at(9), i.Addr) }), call(), "",
		},
		"timed out":                    {call: call(deadline), want: Failed},
		"timed out, a link is stalled": {func(j *Judge) { j.Link(at(9), "server 1", "caller 0", false, true) }, call(deadline), ""},
		"timed out, not to the target": {
			func(j *Judge) { j.Link(at(9), "server 1", "caller 0", false, true) }, call(deadline, target("shop-0")), Failed,
		},
		"timed out, a stalled link was reset": {func(j *Judge) {
			j.Link(at(9), "server 1", "caller 0", false, true)
			j.Reset(at(9.1), "server 1", "caller 0")
		}, call(deadline), ""},
		"failed, a link is stalled": {func(j *Judge) { j.Link(at(9), "server 1", "caller 0", false, true) }, call(), Failed},

		"all vanish":                            {call: call(registered()), want: Forgotten},
		"all vanish, one has left":              {leave, call(registered()), ""},
		"all vanish, one has just come back":    {func(j *Judge) { j.Leave(at(9), "first", false) }, call(registered()), ""},
		"all vanish, one is drained":            {drain(9, "shop-0"), call(registered()), ""},
		"all vanish, one was overwritten":       {func(j *Judge) { j.Doubt(at(5), "first") }, call(registered()), ""},
		"all vanish, one was long overwritten":  {func(j *Judge) { j.Doubt(at(-6), "first") }, call(registered()), Forgotten},
		"all vanish, long after the last call":  {call: call(registered(), begin(14))},
		"all vanish, and can no longer be used": {stall, call(registered()), ""},
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
		{Counts{mostRequests, mostRequests, mostLines}, ""},
		{Counts{Requests: mostRequests + 1}, Requests},
		{Counts{Tokens: mostRequests + 1}, Requests},
		{Counts{Lines: mostLines + 1}, Lines},
	} {
		j := New(began)
		j.Rate(at(10), "server 0", row.done.Sub(Counts{}))
		expect(t, j, row.want)
	}
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
