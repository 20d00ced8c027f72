package healthcheck

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/coretest"
)

const (
	ms = time.Millisecond
	s  = time.Second
)

var (
	start            = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	errUnimplemented = status.Error(codes.Unimplemented, "no Watch here")
	errNotFound      = status.Error(codes.NotFound, "unknown service")
	errBroken        = errors.New("broken")
)

// The services of the tests' core: the whole server, a and b.
const server, a, b = 0, 1, 2

func tick() event { return event{} }
func sent(service int, status servingStatus) event {
	return event{kind: eventSent, service: service, resp: &healthpb.HealthCheckResponse{Status: status}}
}
func ended(service int, err error) event { return event{kind: eventEnded, service: service, err: err} }
func checked(service int, status servingStatus) event {
	return event{kind: eventChecked, service: service, resp: &healthpb.HealthCheckResponse{Status: status}}
}
func failed(service int, err error) event {
	return event{kind: eventChecked, service: service, err: err}
}

// rule is an event at a time after the start, and what the core has the shell do.
type rule struct {
	at   time.Duration
	e    event
	want string
}

// text spells do: calls by the index of the service, reports by that of the group, and the time to
// wake after the start.
func (d do) text() string {
	var words []string
	for _, i := range d.watch {
		words = append(words, fmt.Sprint("watch ", i))
	}
	for _, i := range d.check {
		words = append(words, fmt.Sprint("check ", i))
	}
	for _, c := range d.report {
		words = append(words, fmt.Sprint(c.group, " ", map[bool]string{true: "up", false: "down"}[c.healthy]))
	}
	for _, n := range d.notes {
		words = append(words, fmt.Sprintf("log %q: %v", n.service, n.err))
	}
	if !d.wake.IsZero() {
		words = append(words, fmt.Sprint("wake ", d.wake.Sub(start)))
	}
	return strings.Join(words, ", ")
}

func follow(t *testing.T, c *core, rules []rule) {
	t.Helper()
	for i, r := range rules {
		if got := c.on(r.e, start.Add(r.at)).text(); got != r.want {
			t.Fatalf("rule %d, at %v:\n got %q\nwant %q", i, r.at, got, r.want)
		}
	}
}

func TestG20_CoreCalls(t *testing.T) {
	for name, rules := range map[string][]rule{
		"a Watch that speaks is all it takes": {
			{0, tick(), "watch 0, watch 1, wake 100ms"},
			{0, sent(server, serving), "wake 100ms"},
			{0, sent(a, serving), ""},
			{3600 * s, tick(), ""},
		},
		"without Watch, Check is polled for ever": {
			{0, tick(), "watch 0, watch 1, wake 100ms"},
			{0, sent(server, serving), "wake 100ms"},
			{0, ended(a, errUnimplemented), "check 1, wake 1s"},
			{0, checked(a, serving), "wake 1s"},
			{1 * s, tick(), "check 1, wake 2s"},
			{1*s + 10*ms, checked(a, serving), "wake 2.01s"},
			{3600 * s, tick(), "check 1, wake 1h0m1s"},
		},
		"a silent Watch is not waited for, and Check is polled until it speaks": {
			{0, tick(), "watch 0, watch 1, wake 100ms"},
			{0, sent(server, serving), "wake 100ms"},
			{100 * ms, tick(), "check 1, wake 1s"},
			{100 * ms, checked(a, serving), "wake 1.1s"},
			{1100 * ms, tick(), "check 1, wake 2.1s"},
			{1200 * ms, sent(a, serving), "wake 2.1s"},
			{1300 * ms, checked(a, notServing), ""}, // asked before the Watch spoke
			{3600 * s, tick(), ""},
		},
		"a Watch that ends is opened again, ever more rarely, and Check polled meanwhile": {
			{0, tick(), "watch 0, watch 1, wake 100ms"},
			{0, sent(server, serving), "wake 100ms"},
			{0, sent(a, serving), ""},
			{20 * s, ended(a, errBroken), `check 1, log "a": broken, wake 21s`},
			{20 * s, checked(a, serving), "wake 21s"},
			{30 * s, tick(), "watch 1, wake 30.1s"},
			{30 * s, ended(a, nil), "check 1, wake 31s"},
			{30 * s, checked(a, serving), "wake 31s"},
			{31 * s, tick(), "check 1, wake 32s"},
			{49 * s, checked(a, serving), "wake 50s"},
			{50 * s, tick(), "watch 1, wake 50.1s"},
			{50 * s, ended(a, nil), "check 1, wake 51s"},
			{89 * s, checked(a, serving), "wake 1m30s"},
			{90 * s, tick(), "watch 1, wake 1m30.1s"},
			{90 * s, ended(a, nil), "check 1, wake 1m31s"},
			{149 * s, checked(a, serving), "wake 2m30s"},
			{150 * s, tick(), "watch 1, wake 2m30.1s"},
			{150 * s, sent(a, serving), ""},
			{211 * s, ended(a, nil), "check 1, wake 3m32s"}, // it lived for more than a minute
			{220500 * ms, checked(a, serving), "wake 3m41s"},
			{221 * s, tick(), "watch 1, wake 3m41.5s"},
		},
		"a Watch that has spoken is there, whatever it says in the end": {
			{0, tick(), "watch 0, watch 1, wake 100ms"},
			{0, sent(server, serving), "wake 100ms"},
			{0, sent(a, serving), ""},
			{0, ended(a, errUnimplemented), `check 1, log "a": rpc error: code = Unimplemented desc = no Watch here, wake 1s`},
			{9500 * ms, checked(a, serving), "wake 10s"},
			{10 * s, tick(), "watch 1, wake 10.5s"},
		},
		"no second Check while one hangs": {
			{0, tick(), "watch 0, watch 1, wake 100ms"},
			{0, sent(server, serving), "wake 100ms"},
			{0, ended(a, errUnimplemented), "check 1, wake 1s"},
			{1 * s, tick(), `log "a": it has not returned within 1s`},
			{3600 * s, tick(), ""},
			{3600 * s, checked(a, serving), "wake 1h0m1s"},
			{3601 * s, tick(), "check 1, wake 1h0m2s"},
		},
		"neither Watch nor Check": {
			{0, tick(), "watch 0, watch 1, wake 100ms"},
			{0, sent(server, serving), "wake 100ms"},
			{0, ended(a, errUnimplemented), "check 1, wake 1s"},
			{0, failed(a, errUnimplemented), ""},
			{3600 * s, tick(), ""},
		},
		"faults are logged once, then once an hour": {
			{0, tick(), "watch 0, watch 1, wake 100ms"},
			{0, sent(server, serving), "wake 100ms"},
			{0, ended(a, errUnimplemented), "check 1, wake 1s"},
			{0, failed(a, errNotFound), "wake 1s"}, // no fault
			{1 * s, tick(), "check 1, wake 2s"},
			{1 * s, failed(a, errBroken), `log "a": broken, wake 2s`},
			{3600 * s, tick(), "check 1, wake 1h0m1s"},
			{3600 * s, failed(a, errBroken), "wake 1h0m1s"},
			{3601 * s, tick(), "check 1, wake 1h0m2s"},
			{3601 * s, failed(a, errBroken), `log "a": broken, wake 1h0m2s`},
		},
		"answers that make no sense": {
			{0, tick(), "watch 0, watch 1, wake 100ms"},
			{0, sent(server, serving), "wake 100ms"},
			{0, sent(a, 77), `log "a": the status is 77`},
			{3600 * s, event{kind: eventSent, service: a}, `log "a": the response is nil`},
			{3600 * s, sent(a, -1), ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			follow(t, newCore([][]string{{"a"}}, start), rules)
		})
	}
}

// When the first answers are in, what is known counts; until then nothing is reported.
func TestG20_CoreBegins(t *testing.T) {
	type rule struct {
		at   time.Duration
		e    event
		want string // "": goes on waiting
	}
	for name, rules := range map[string][]rule{
		"all answers are in": {
			{0, sent(server, serving), ""},
			{0, sent(a, notServing), ""},
			{0, sent(a, serving), ""},
			{0, sent(b, notServing), "true false false"},
		},
		"an answer may say that there is none": {
			{0, sent(server, notServing), ""},
			{0, sent(a, unknown), ""},
			{0, ended(b, errUnimplemented), ""},
			{0, failed(b, errUnimplemented), "false false false"},
		},
		"a Check fails": {
			{0, sent(server, serving), ""},
			{0, sent(a, notServing), ""},
			{0, ended(b, errUnimplemented), ""},
			{0, failed(b, errBroken), "false true false"},
		},
		"no service answers in time": {
			{999 * ms, tick(), ""},
			{1 * s, tick(), "true true true"},
		},
		"some answer in time": {
			{0, sent(a, notServing), ""},
			{1 * s, tick(), "false true false"},
		},
		"there is no more time": {
			{0, sent(a, notServing), ""},
			{1 * ms, event{kind: eventHurry}, "false true false"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCore([][]string{{"a"}, {"b"}, {"a", "b"}}, start)
			c.on(tick(), start)
			for i, r := range rules {
				d := c.on(r.e, start.Add(r.at))
				if len(d.report) > 0 {
					t.Errorf("rule %d: reports %v", i, d.report)
				}
				if c.reports != (r.want != "") {
					t.Fatalf("rule %d: the first answers are in: %v", i, c.reports)
				}
				if !c.reports && d.wake.IsZero() {
					t.Errorf("rule %d: the first answers have no deadline", i)
				}
			}
			if got, want := fmt.Sprint(c.first()), "["+rules[len(rules)-1].want+"]"; got != want {
				t.Errorf("healthy: %s, want %s", got, want)
			}
		})
	}
}

func TestCoreJudges(t *testing.T) {
	const transient, zero = servingStatus(9), healthpb.HealthCheckResponse_UNKNOWN
	for _, tt := range []struct {
		server, a, b servingStatus
		want         bool
	}{
		{serving, serving, serving, true},
		{serving, notServing, serving, false},
		{serving, serving, notServing, false},
		{notServing, serving, serving, true}, // each service has said so
		{notServing, unknown, serving, false},
		{notServing, zero, serving, false},
		{notServing, transient, serving, false},
		{unknown, unknown, unknown, true},
		{serving, unknown, unknown, true},
		{unknown, notServing, unknown, false},
	} {
		c := newCore([][]string{{"a", "b", "a"}}, start)
		c.on(sent(server, tt.server), start)
		c.on(sent(a, tt.a), start)
		c.on(sent(b, tt.b), start)
		if got := c.first()[0]; got != tt.want {
			t.Errorf("server %v, a %v, b %v: healthy %v", tt.server, tt.a, tt.b, got)
		}
	}
	if len(newCore([][]string{{"a", ""}, nil, {"b", "a"}}, start).services) != 3 {
		t.Error("a service is followed twice")
	}
}

func TestG20_CoreSpacesChanges(t *testing.T) {
	up, down := sent(a, serving), sent(a, notServing)
	for name, rules := range map[string][]rule{
		"down is reported at once, up when it has lasted": {
			{10 * s, down, "0 down"},
			{20 * s, up, "wake 20.5s"},
			{20500 * ms, tick(), "0 up"},
			{30 * s, down, "0 down"},
		},
		"up soon after down waits": {
			{10 * s, down, "0 down"},
			{11 * s, up, "wake 12s"},
			{12 * s, tick(), "0 up"},
		},
		"down soon after up waits": {
			{10 * s, down, "0 down"},
			{19500 * ms, up, "wake 20s"},
			{20 * s, tick(), "0 up"},
			{21 * s, down, "wake 22s"},
			{22 * s, tick(), "0 down"},
		},
		"up that does not last is not reported": {
			{10 * s, down, "0 down"},
			{11900 * ms, up, "wake 12.4s"},
			{12300 * ms, down, ""},
			{12400 * ms, up, "wake 12.9s"},
			{12900 * ms, tick(), "0 up"},
		},
		"what went and came back is no change": {
			{10 * s, down, "0 down"},
			{20 * s, up, "wake 20.5s"},
			{20400 * ms, down, ""},
			{30 * s, up, "wake 30.5s"},
			{30500 * ms, tick(), "0 up"},
			{31 * s, down, "wake 32.5s"},
			{32 * s, up, ""},
			{33 * s, tick(), ""},
		},
		"the same again is no change": {
			{10 * s, down, "0 down"},
			{11 * s, down, ""},
			{20 * s, up, "wake 20.5s"},
			{20200 * ms, up, "wake 20.5s"},
			{20500 * ms, tick(), "0 up"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCore([][]string{{"a"}}, start)
			c.on(tick(), start)
			c.on(sent(server, serving), start)
			c.on(up, start)
			follow(t, c, rules)
		})
	}
	t.Run("a change before the first answers are in does not count", func(t *testing.T) {
		c := newCore([][]string{{"a"}}, start)
		follow(t, c, []rule{
			{0, tick(), "watch 0, watch 1, wake 100ms"},
			{0, down, "wake 100ms"},
			{1 * ms, sent(server, serving), ""},
			{2 * ms, up, "wake 502ms"},
			{502 * ms, tick(), "0 up"},
		})
	})
}

// Whatever the health does, reports are spaced, a minute of it makes at most two transactions a second,
// and what it was in the end is reported within 3 s.
func TestG20_CoreFlapping(t *testing.T) {
	for _, every := range []time.Duration{ms, 10 * ms, 99 * ms, 333 * ms, 500 * ms, 501 * ms, 1 * s, 1300 * ms, 1999 * ms, 2 * s, 2100 * ms, 5 * s} {
		for _, ending := range []bool{true, false} {
			c := newCore([][]string{{"a"}}, start)
			c.on(sent(server, serving), start)
			c.on(sent(a, serving), start)
			f := flapper{t: t, core: c, now: start, reported: true}
			for f.now.Sub(start) < time.Minute {
				f.until(f.now.Add(every))
				f.healthy = !f.healthy
				f.set()
			}
			f.healthy = ending
			f.set()
			f.until(f.now.Add(3 * s))
			if f.reported != ending {
				t.Errorf("every %v: 3 s after the end healthy is %v, want %v", every, f.reported, ending)
			}
			if f.transactions > 63*2 {
				t.Errorf("every %v: %d transactions in 63 s", every, f.transactions)
			}
			if every < settle && f.transactions > 2+map[bool]int{true: 1}[ending] {
				t.Errorf("every %v: %d transactions, want it left out", every, f.transactions)
			}
		}
	}
}

// flapper runs a core through changes of the health of service a, which has group 0.
type flapper struct {
	t            *testing.T
	core         *core
	now, wake    time.Time
	healthy      bool
	reported     bool
	last         time.Time // when it was
	transactions int
}

// until runs the clock, and the ticks that the core asks for.
func (f *flapper) until(at time.Time) {
	for !f.wake.IsZero() && !f.wake.After(at) {
		f.now = f.wake
		f.take(f.core.on(tick(), f.now))
		if !f.wake.IsZero() && !f.wake.After(f.now) {
			f.t.Fatalf("wants to wake at %v, at %v", f.wake, f.now)
		}
	}
	f.now = at
}

func (f *flapper) set() {
	f.take(f.core.on(sent(a, map[bool]servingStatus{true: serving, false: notServing}[f.healthy]), f.now))
}

func (f *flapper) take(d do) {
	f.wake = d.wake
	for _, r := range d.report {
		if r.healthy == f.reported {
			f.t.Errorf("%v is reported twice", r.healthy)
		}
		if r.healthy != f.healthy {
			f.t.Errorf("%v is reported, and is not so", r.healthy)
		}
		if apart := f.now.Sub(f.last); apart < spacing {
			f.t.Errorf("two reports are %v apart", apart)
		}
		f.reported, f.last = r.healthy, f.now
		f.transactions += map[bool]int{true: 1, false: 2}[r.healthy]
	}
}

func TestCoreIsPure(t *testing.T) {
	coretest.Check(t, "core.go", "damping.go")
}
