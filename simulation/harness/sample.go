package harness

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// sample looks again and again at what every server has in etcd, and at what callers say of it.
func (t *trial) sample(ctx context.Context) {
	all := t.all()
	servers, callers := make([]seenServer, len(all)), make([]lasting, len(t.callers))
	for i := range servers {
		servers[i] = seenServer{wrong: make(lasting), lost: make(lasting)}
	}
	for i := range callers {
		callers[i] = make(lasting)
	}
	leaderless, drained := make(lasting), make(lasting)
	tick := time.NewTicker(sampling)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i, s := range all {
			s.look(&servers[i])
		}
		for i, c := range t.callers {
			c.lookAtKey(callers[i])
		}
		t.election.lookAtLeaders()
		t.election.lookAtTerms()
		t.lookForLeader(leaderless)
		t.lookForDrained(drained)
	}
}

// seenServer is what has been seen of a server so far.
type seenServer struct {
	was   string  // since when wrong counts: which life it is, what it wants, and whether its way to etcd is free
	wrong lasting // while that is so
	lost  lasting
}

// look looks at a server.
func (s *server) look(seen *seenServer) {
	now := s.sight()
	hampered := s.w.Hampered(s.index) || s.w.Plan.Line > 0 && s.w.Barred(s.index) // what is refused is found out by halves
	if is := fmt.Sprint(now.id, now.in, now.wants, hampered); is != seen.was {
		seen.was = is
		seen.wrong.forget()
	}
	if now.registry == nil {
		return
	}
	if !hampered {
		s.lookAt(now, seen.wrong)
	}
	s.lookForLost(now, seen.lost)
}

// lookAt judges what etcd has of a server whose way to etcd is free.
func (s *server) lookAt(now sight, wrong lasting) {
	full, barred := s.w.Etcd.Full(), s.w.Barred(s.index)
	for _, key := range s.keys() {
		lacks, own := s.lacks(key), s.own(now.from, key)
		free := !full && !s.taken(now.from, key)
		gone := !now.in && !(now.back && full) && (len(now.out) == 0 || slices.Contains(now.out, key))
		if wrong.tooLong(key+" is lacking", now.in && lacks != "" && free && !s.justPut(now.from, key, time.Now().Add(-sampling))) {
			s.w.Report(check.Kept, "%s reaches etcd, and for %v %s", now.id, keptWithin, lacks)
		}
		if wrong.tooLong(key+" is left", gone && len(own) > 0) {
			s.w.Report(check.Kept, "%s reaches etcd and has left %v ago, and etcd has %v", now.id, keptWithin, own)
		}
		for _, status := range now.statuses {
			s.lookAtLogged(now, status, wrong)
			if status.Key != key {
				continue
			}
			out := status.State == runtime.StatePaused || status.State == runtime.StateClosed || unannounced(status)
			if wrong.tooLong(key+" is not said to be out", gone && (!out || status.Err != nil && !unannounced(status)) && !barred) {
				s.w.Report(check.Status, "%s has left %v ago, and says that %s is %v: %v", now.id, keptWithin, key, status.State, status.Err)
			}
			if now.in {
				s.lookAtStatus(now, status, wrong, len(own) < len(s.layouts()), lacks == "" && !barred, full)
			}
		}
	}
	s.lookAtHealth(now, wrong)
	if s.elects() && !barred {
		s.lookAtCandidate(now, wrong, s.lacks(acme.ShopKey) != "", full)
	}
	left := s.w.LeasesLeft(now.from)
	if (now.in || s.spec.Second) && len(left) > 0 {
		left = left[:len(left)-1] // in use
	}
	back := s.w.ResetSince(time.Now().Add(-s.w.Plan.LeaseTTL() - keptWithin)) // what was revoked since the backup expires
	if wrong.tooLong("leases are left", len(left) > 0 && !full && !barred && !back) {
		s.w.Report(check.LeftBehind, "%s reaches etcd, and for %v has not revoked the leases %x", now.id, keptWithin, left)
	}
}

// unannounced reports whether a server says that nobody has announced it: it was to leave before that.
func unannounced(s runtime.Status) bool {
	return s.State == runtime.StateRegistering && s.LeaseID == 0 && s.Err != nil && strings.Contains(s.Err.Error(), "not announced yet")
}

// lookAtStatus judges what a server says of an entry that it wants in etcd.
func (s *server) lookAtStatus(now sight, status runtime.Status, wrong lasting, absent, there, full bool) {
	registered := status.State == runtime.StateRegistered
	if wrong.tooLong(status.Key+" is said to be there", absent && registered) {
		s.w.Report(check.Status, "%s says that %s is %v, and etcd has not had it for %v", now.id, status.Key, status.State, keptWithin)
	}
	if wrong.tooLong(status.Key+" is said not to be there", there && (!registered || status.Err != nil) && !full) {
		s.w.Report(check.Status, "%s says that %s is %v: %v, and etcd has had it for %v", now.id, status.Key, status.State, status.Err, keptWithin)
	}
	if wrong.longer(0, status.Key+" has no reason", status.State == runtime.StateConflict && status.Err == nil) {
		s.w.Report(check.Status, "%s says that %s is %v, and not why", now.id, status.Key, status.State)
	}
	waits := status.State == runtime.StateLost || status.State == runtime.StateRegistering
	if wrong.tooLong(status.Key+" waits for no reason", waits && status.Err == nil && status.State != runtime.StateRegistered) {
		s.w.Report(check.Status, "%s has said for %v that %s is %v, and not why", now.id, keptWithin, status.Key, status.State)
	}
	taken := s.taken(now.from, status.Key)
	if wrong.tooLong(status.Key+" is taken", taken && status.State != runtime.StateConflict && !full) {
		s.w.Report(check.Status, "%s says that %s is %v, and somebody else has had the key for %v", now.id, status.Key, status.State, keptWithin)
	}
	if wrong.tooLong(status.Key+" is not taken", !taken && status.State == runtime.StateConflict && !full) {
		s.w.Report(check.Status, "%s says that %s is in conflict, and nobody else has had the key for %v: %v", now.id, status.Key, keptWithin, status.Err)
	}
	unknown := registered && !slices.Contains(s.w.LeasesLeft(now.from), int64(status.LeaseID))
	if wrong.tooLong(status.Key+" is on no lease", unknown) {
		s.w.Report(check.Status, "%s says that %s is registered on lease %x, which etcd has not had for %v", now.id, status.Key, status.LeaseID, keptWithin)
	}
	refused := absent && full && time.Since(status.Since) > keptWithin // it was tried meanwhile
	if wrong.tooLong(status.Key+" is not said to be refused", refused && status.Err == nil) {
		s.w.Report(check.Status, "%s says that %s is %v without an error, and etcd has refused it for %v", now.id, status.Key, status.State, keptWithin)
	}
}

// lookAtLogged judges whether the log has told of a state.
func (s *server) lookAtLogged(now sight, status runtime.Status, wrong lasting) {
	untold := status.State != runtime.StateRegistering && !s.log.told(now.life, status.Key, status.State.String())
	if wrong.longer(trips*s.w.line(), status.Key+" is not logged", untold) {
		s.w.Report(check.Status, "%s says that %s is %v, and has not logged that", now.id, status.Key, status.State)
	}
}

// lookAtHealth judges what the health service says of the registrations of a server that is to be in etcd.
func (s *server) lookAtHealth(now sight, wrong lasting) {
	if s.spec.Mode == schedule.Register || len(now.statuses) == 0 || !now.in {
		return
	}
	said := grpc_health_v1.HealthCheckResponse_UNKNOWN
	r, err := now.health.Check(context.Background(), &grpc_health_v1.HealthCheckRequest{Service: runtime.RegistrationHealth})
	if err == nil {
		said = r.Status
	}
	want := grpc_health_v1.HealthCheckResponse_SERVING
	if slices.ContainsFunc(now.statuses, func(status runtime.Status) bool { return status.State != runtime.StateRegistered }) {
		want = grpc_health_v1.HealthCheckResponse_NOT_SERVING
	}
	if wrong.longer(0, "health", said != want) {
		s.w.Report(check.Status, "%s has the registrations %v, and its health service says %v", now.id, now.statuses, said)
	}
}

// lookForLost judges whether a server, be it cut off from etcd, knows that it is not there because its lease has expired, once the call under way has ended.
func (s *server) lookForLost(now sight, wrong lasting) {
	gone := len(s.w.LeasesLeft(now.from)) == 0 && !s.w.HearsLate(s.index)
	for _, status := range now.statuses {
		registered := gone && status.State == runtime.StateRegistered
		if within := s.w.Plan.LeaseTTL() + keptWithin + 5*time.Second; wrong.longer(within, now.id+status.Key, registered) {
			s.w.Report(check.Status, "%s says that %s is %v, and its lease has been gone for %v", now.id, status.Key, status.State, within)
		}
	}
}

const (
	// noticed is how soon a process has noticed that it is cut off: its watch has not answered for a while, and no list does.
	noticed = 12 * time.Second
	// farther is how many times the line's length it takes longer: the watch, two reads and a list have three usual round trips each
	// beside their bounds. All that is known of those may be the first read, which also made the connection.
	farther = 4 * 3 * 10
)

// lookAtKey judges whether a caller says of the shop if etcd can be followed.
func (c *caller) lookAtKey(wrong lasting) {
	registry := c.running()
	if registry == nil {
		wrong.forget()
		return
	}
	err, etcdErr := keyStatus(registry, acme.ShopKey).Err, registry.Status().Etcd.Err
	if wrong.longer(noticed+farther*c.w.line(), "cut off", c.cutOff() && err == nil) {
		c.w.Report(check.Status, "%s has been cut off from etcd for %v, and says that it follows %s", c.name(), noticed, acme.ShopKey)
	}
	if wrong.longer(noticed+farther*c.w.line(), "no connection", c.cutOff() && etcdErr == nil && c.spec.Client != schedule.Parts) {
		c.w.Report(check.Status, "%s has been cut off from etcd for %v, and says that it has a connection", c.name(), noticed)
	}
	if wrong.tooLong("a connection", !c.w.Hampered(c.index) && etcdErr != nil) {
		c.w.Report(check.Status, "%s has reached etcd for %v, and says of its connection: %v", c.name(), keptWithin, etcdErr)
	}
	if wrong.tooLong("not cut off", !c.w.Hampered(c.index) && !c.w.Unanswered(c.index) && err != nil) {
		c.w.Report(check.Status, "%s has reached etcd for %v, and says of %s: %v", c.name(), keptWithin, acme.ShopKey, err)
	}
}

// measure judges the rates of all processes, a window at a time. The last window is a part of one.
func (t *trial) measure(ctx context.Context) {
	before := make(map[int]check.Counts)
	tick := time.NewTicker(check.Window)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		for i := range t.Plan.Processes() {
			done := t.requests.askedBy(i)
			done.Lines, done.Dials = t.process(i).log.count(), int(t.process(i).dials.Load())
			t.Observe(func(j *check.Judge) { j.Rate(time.Now(), t.Plan.Name(i), done.Sub(before[i])) })
			before[i] = done
		}
	}
}
