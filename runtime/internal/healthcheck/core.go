package healthcheck

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const (
	// firstWait bounds the wait for the first answers, for it keeps a server from serving.
	firstWait = time.Second

	// watchSilence is how long a Watch may send nothing before Check is polled beside it.
	watchSilence = 100 * time.Millisecond

	// checkTimeout bounds a Check, and checkInterval is the pause between two Checks of a service.
	checkTimeout  = time.Second
	checkInterval = time.Second

	// The pause before a Watch is opened again doubles within these limits. It starts anew after a Watch that
	// lasted for longer than the upper one.
	minWatchPause = 10 * time.Second
	maxWatchPause = time.Minute

	// logInterval is the least time between two log lines about one kind of fault.
	logInterval = time.Hour
)

// servingStatus is the status of a service: SERVING, NOT_SERVING, or SERVICE_UNKNOWN if the health service does
// not know the service or has not answered.
type servingStatus = healthpb.HealthCheckResponse_ServingStatus

const (
	serving    = healthpb.HealthCheckResponse_SERVING
	notServing = healthpb.HealthCheckResponse_NOT_SERVING
	unknown    = healthpb.HealthCheckResponse_SERVICE_UNKNOWN
)

// core decides which calls of the health service to make, and which changes of the groups' health to report.
type core struct {
	services []service // the first is the whole server, whose name is ""
	groups   []group
	deadline time.Time // of the first answers
	reports  bool      // the first answers are in, and changes are reported
	logged   map[fault]time.Time
}

type service struct {
	name     string
	status   servingStatus
	answered bool // or not expected to answer soon

	watch     watchState
	opened    time.Time     // when the Watch was opened last
	nextWatch time.Time     // when to open it
	pause     time.Duration // before nextWatch, the last time

	checking    bool      // a Check is under way
	asked       time.Time // when it began
	overdue     bool      // it has taken longer than checkTimeout
	uncheckable bool      // Check is not implemented
	nextCheck   time.Time // when to start one
}

type watchState int

const (
	watchEnded  watchState = iota
	watchSilent            // open, and has sent nothing yet
	watchSpeaking
	watchMissing // not implemented
)

// event is the outcome of a call of the health service, or a sign that time has passed.
type event struct {
	kind    eventKind
	service int
	resp    *healthpb.HealthCheckResponse // sent, checked
	err     error                         // checked, ended
}

type eventKind int

const (
	eventTick    eventKind = iota // time has passed
	eventSent                     // the Watch of a service sent resp
	eventEnded                    // the Watch of a service returned err
	eventChecked                  // the Check of a service returned resp and err
	eventHurry                    // the caller waits for the first answers no longer
)

// do is a list of things for the shell to do.
type do struct {
	watch  []int     // open a Watch of these services
	check  []int     // start a Check of these
	report []change  // report these, in this order
	notes  []note    // log these
	wake   time.Time // when to send eventTick; zero: never
}

type change struct {
	group   int
	healthy bool
}

// note is a log line.
type note struct {
	fault   fault
	service string
	err     error
}

type fault string

const (
	faultWatch  fault = "the health service's Watch ended: polling Check"
	faultCheck  fault = "the health service's Check failed: keeping the last status"
	faultAnswer fault = "the health service gave an answer that makes no sense: taking it for an unknown service"
)

var errOverdue = fmt.Errorf("it has not returned within %v", checkTimeout)

func newCore(names [][]string, now time.Time) *core {
	c := &core{services: []service{{}}, deadline: now.Add(firstWait), logged: make(map[fault]time.Time)}
	for _, group := range names {
		c.groups = append(c.groups, newGroup(c.indexes(group)))
	}
	for i := range c.services {
		s := &c.services[i]
		s.status, s.nextWatch, s.nextCheck = unknown, now, now
	}
	return c
}

// indexes returns where services are, after adding those that are missing.
func (c *core) indexes(names []string) []int {
	at := make([]int, len(names))
	for i, name := range names {
		at[i] = slices.IndexFunc(c.services, func(s service) bool { return s.name == name })
		if at[i] < 0 {
			at[i] = len(c.services)
			c.services = append(c.services, service{name: name})
		}
	}
	return at
}

// on takes an event.
func (c *core) on(e event, now time.Time) do {
	var do do
	switch e.kind {
	case eventTick:
	case eventSent:
		c.sent(e, now, &do)
	case eventEnded:
		c.ended(e, now, &do)
	case eventChecked:
		c.checked(e, now, &do)
	case eventHurry:
		c.deadline = now
	}
	for i := range c.services {
		c.call(i, now, &do)
	}
	c.judge(now, &do)
	do.wake = c.wake()
	return do
}

func (c *core) sent(e event, now time.Time, do *do) {
	s := &c.services[e.service]
	s.watch, s.answered = watchSpeaking, true
	s.status = c.statusOf(e, now, do)
}

func (c *core) ended(e event, now time.Time, do *do) {
	s := &c.services[e.service]
	if s.watch == watchSilent && status.Code(e.err) == codes.Unimplemented {
		s.watch, s.nextCheck = watchMissing, now
		return
	}
	if e.err == nil {
		e.err = errors.New("it returned without an error")
	}
	c.note(faultWatch, e, now, do)
	s.pause = min(max(2*s.pause, minWatchPause), maxWatchPause)
	if now.Sub(s.opened) > maxWatchPause {
		s.pause = minWatchPause
	}
	s.watch, s.nextWatch, s.nextCheck = watchEnded, now.Add(s.pause), now
}

func (c *core) checked(e event, now time.Time, do *do) {
	s := &c.services[e.service]
	s.checking, s.overdue, s.answered = false, false, true
	s.nextCheck = now.Add(checkInterval)
	if s.watch == watchSpeaking {
		return // the Watch knows better
	}
	switch status.Code(e.err) {
	case codes.OK:
		s.status = c.statusOf(e, now, do)
	case codes.NotFound:
		s.status = unknown
	case codes.Unimplemented:
		s.uncheckable = true
	default:
		c.note(faultCheck, e, now, do)
	}
}

// statusOf returns the status that an answer means.
func (c *core) statusOf(e event, now time.Time, do *do) servingStatus {
	got := e.resp.GetStatus()
	switch {
	case e.resp == nil:
		e.err = errors.New("the response is nil")
	case got == serving || got == notServing:
		return got
	case got == unknown || got == healthpb.HealthCheckResponse_UNKNOWN:
		return unknown
	default:
		e.err = fmt.Errorf("the status is %d", got)
	}
	c.note(faultAnswer, e, now, do)
	return unknown
}

// call decides which calls of the health service to make for a service. At most one Watch and one
// Check of it are under way, and Check is polled only while no Watch has sent a status.
func (c *core) call(i int, now time.Time, do *do) {
	s := &c.services[i]
	if s.watch == watchEnded && !now.Before(s.nextWatch) {
		s.watch, s.opened = watchSilent, now
		s.nextCheck = later(s.nextCheck, now.Add(watchSilence))
		do.watch = append(do.watch, i)
	}
	if s.checking && !s.overdue && !now.Before(s.asked.Add(checkTimeout)) {
		s.overdue, s.answered = true, true
		c.note(faultCheck, event{service: i, err: errOverdue}, now, do)
	}
	if s.polled() && !now.Before(s.nextCheck) {
		s.checking, s.asked = true, now
		do.check = append(do.check, i)
	}
}

// polled reports whether to start a Check at nextCheck.
func (s *service) polled() bool {
	return s.watch != watchSpeaking && !s.checking && !s.uncheckable
}

// judge decides whether the groups are healthy, and which changes to report.
func (c *core) judge(now time.Time, do *do) {
	for i := range c.groups {
		c.groups[i].set(c.healthy(&c.groups[i]), now)
	}
	if !c.reports {
		unanswered := slices.ContainsFunc(c.services, func(s service) bool { return !s.answered })
		c.reports = !unanswered || !now.Before(c.deadline)
		for i := range c.groups {
			c.groups[i].start()
		}
		return
	}
	for i := range c.groups {
		if g := &c.groups[i]; g.due(now) {
			do.report = append(do.report, change{i, g.report(now)})
		}
	}
}

// healthy reports whether no service of a group is NOT_SERVING. A service that the health service does
// not know is as healthy as the whole server.
func (c *core) healthy(g *group) bool {
	return !slices.ContainsFunc(g.services, func(i int) bool {
		status := c.services[i].status
		if status == unknown {
			status = c.services[0].status
		}
		return status == notServing
	})
}

// first returns whether each group is healthy, once the first answers are in.
func (c *core) first() []bool {
	healthy := make([]bool, len(c.groups))
	for i, g := range c.groups {
		healthy[i] = g.reported
	}
	return healthy
}

// wake returns when to send eventTick.
func (c *core) wake() time.Time {
	var at time.Time
	if !c.reports {
		at = c.deadline
	}
	for i := range c.services {
		s := &c.services[i]
		if s.watch == watchEnded {
			at = sooner(at, s.nextWatch)
		}
		if s.checking && !s.overdue {
			at = sooner(at, s.asked.Add(checkTimeout))
		}
		if s.polled() {
			at = sooner(at, s.nextCheck)
		}
	}
	for i := range c.groups {
		if g := &c.groups[i]; c.reports && g.healthy != g.reported {
			at = sooner(at, g.dueAt())
		}
	}
	return at
}

// note has a fault logged, unless one of its kind was logged lately.
func (c *core) note(f fault, e event, now time.Time, do *do) {
	if last, ok := c.logged[f]; ok && now.Sub(last) < logInterval {
		return
	}
	c.logged[f] = now
	do.notes = append(do.notes, note{f, c.services[e.service].name, e.err})
}

// sooner returns the earlier of two times, of which zero stands for never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
