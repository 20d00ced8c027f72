package balancer

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/events"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// regions is the balancer that gRPC knows. It is the policy of the endpoints at home and, for a connection that falls back on
// another cluster, a second one of the endpoints there. Each is whole and knows nothing of the other, so what holds for the
// calls at home holds for those that leave. crossing decides when they may.
type regions struct {
	cc       balancer.ClientConn
	opts     balancer.BuildOptions
	home     *policy
	queue    *events.Queue
	sequence picking.Sequence // of the choices between home and away
	nobody   atomic.Bool      // since the last look, a call was for a strict lane without an endpoint at home

	// mu guards what follows. It is taken before a policy's own; no pick takes it.
	mu       sync.Mutex
	crossing crossing
	away     *policy // nil: no call had to leave yet
	told     *attr.State
	lent     []resolver.Endpoint      // the endpoints away, without addresses that home has, too
	config   balancer.ClientConnState // the last, for its config
	tells    func(bool)               // called with whether calls leave; may be nil
	lately   bool                     // the value of nobody at the last look
	waking   *time.Timer
	closed   bool

	// picks guards what picks go by. It is taken last.
	picks   sync.Mutex
	offered bool // calls may leave, or may soon
	open    bool // ... and there is a policy for them
	latest  struct{ home, away balancer.State }
}

func newRegions(cc balancer.ClientConn, opts balancer.BuildOptions) *regions {
	r := &regions{cc: cc, opts: opts}
	r.sequence.Shuffle()
	r.queue = events.NewQueue(func() { r.home.spawn(func() { r.do(func() {}) }) })
	r.home = buildPolicy(regionConn{cc, r, &r.latest.home}, opts)
	return r
}

// regionConn is the ClientConn of one of the policies. It keeps what the policy last published, for regions to combine.
type regionConn struct {
	balancer.ClientConn
	regions *regions
	state   *balancer.State // its own
}

// UpdateState implements [balancer.ClientConn].
func (g regionConn) UpdateState(s balancer.State) {
	r := g.regions
	r.picks.Lock()
	defer r.picks.Unlock()
	*g.state = s
	r.publish()
	if home, ok := s.Picker.(*picker); ok && r.offered && g.state == &r.latest.home {
		r.queue.Put(func() { r.homeChanged(home, s.ConnectivityState) })
	}
}

// publish gives gRPC a picker of both policies. It must be called with picks held.
func (r *regions) publish() {
	home, ok := r.latest.home.Picker.(*picker)
	if !r.offered || !ok {
		if ok {
			r.cc.UpdateState(r.latest.home)
		}
		return
	}
	p := &crosser{regions: r, home: home}
	state := r.latest.home.ConnectivityState
	if r.open {
		p.away, p.awayReady = r.latest.away.Picker, r.latest.away.ConnectivityState == connectivity.Ready
	}
	switch {
	case p.awayReady:
		state = connectivity.Ready
	case state != connectivity.TransientFailure:
	case p.away == nil: // it is about to be opened
		state = connectivity.Connecting
	default:
		state = r.latest.away.ConnectivityState
	}
	r.cc.UpdateState(balancer.State{ConnectivityState: state, Picker: p})
}

// do runs f and then the events in the queue, and carries out what crossing decides.
func (r *regions) do(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for todo := []func(){f}; len(todo) > 0; todo = r.queue.All() {
		for _, event := range todo {
			if r.closed {
				return
			}
			if event(); !r.closed {
				r.carryOut()
			}
		}
	}
}

// carryOut carries out what crossing has decided.
func (r *regions) carryOut() {
	out := r.crossing.flush()
	if out.updateAway {
		r.updateAway()
	}
	if out.tell && r.tells != nil {
		r.tells(r.crossing.leaving())
	}
	if out.tell && !r.crossing.leaving() {
		r.picks.Lock()
		r.publish() // the next call that leaves says so again
		r.picks.Unlock()
	}
	if r.waking != nil {
		r.waking.Stop()
	}
	if at := earliest(r.crossing.closeAt, r.crossing.lookAt); !at.IsZero() {
		r.waking = time.AfterFunc(time.Until(at), func() { r.do(r.expire) })
	}
}

// expire handles that a time of crossing has come.
func (r *regions) expire() {
	if r.crossing.expire(r.home.now()) {
		r.look()
	}
}

// updateAway gives the policy of the other cluster its endpoints, and ends it where crossing is not open.
func (r *regions) updateAway() {
	if r.away == nil && r.crossing.open {
		r.away = buildPolicy(regionConn{r.cc, r, &r.latest.away}, r.opts)
		r.away.spawn, r.away.now = r.home.spawn, r.home.now
	}
	r.picks.Lock()
	if r.open = r.crossing.open; !r.open {
		r.publish()
	}
	r.picks.Unlock()
	if !r.crossing.open {
		if r.away != nil {
			r.away.Close()
			r.away, r.latest.away = nil, balancer.State{}
		}
		return
	}
	away := attr.State{Client: r.told.Client.Away, Health: r.told.Health}
	if other := r.told.Away; other != nil {
		away.Key, away.Sequence, away.Held, away.Err = other.Key, other.Sequence, other.Held, other.Err
		away.Endpoints = r.lent
	}
	s := r.config
	s.ResolverState = attr.SetState(resolver.State{}, &away)
	_ = r.away.UpdateClientConnState(s) // home has accepted the config
}

// except returns the endpoints that have none of the addresses of others.
func except(endpoints, others []resolver.Endpoint) []resolver.Endpoint {
	both := make(map[string]bool, len(endpoints)) // false: endpoints alone have it. The others may be many more
	for i := range endpoints {
		both[address(&endpoints[i])] = false
	}
	for i := range others {
		if _, known := both[address(&others[i])]; known {
			both[address(&others[i])] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(endpoints), func(ep resolver.Endpoint) bool { return both[address(&ep)] })
}

// homeChanged is the event that home has a new picker.
func (r *regions) homeChanged(p *picker, state connectivity.State) {
	judge := state != connectivity.Ready || r.crossing.lacking || p.plan.live < len(p.plan.endpoints) // else crosser.ask reports it
	r.crossing.home(p.epoch, judge && (r.lately || r.nobody.Load() || p.lacks(r.crossing.lacking)), r.home.now())
}

// look judges home again: no new picker of home reports that calls to an empty strict lane have ended.
func (r *regions) look() {
	r.lately = r.nobody.Swap(false)
	r.picks.Lock()
	home := r.latest.home
	r.picks.Unlock()
	if p, ok := home.Picker.(*picker); ok {
		r.homeChanged(p, home.ConnectivityState)
	}
}

// UpdateClientConnState implements [balancer.Balancer].
func (r *regions) UpdateClientConnState(s balancer.ClientConnState) error {
	told := attr.StateOf(s.ResolverState)
	var lent []resolver.Endpoint
	pending := false
	if told != nil && told.Away != nil {
		lent, pending = except(told.Away.Endpoints, told.Endpoints), told.Away.Pending
	}
	offers := len(lent) > 0
	r.picks.Lock()
	r.offered = offers || pending // before home's next picker, which may have nothing else
	r.picks.Unlock()
	if offers && told.InState {
		s.ResolverState.Endpoints = except(s.ResolverState.Endpoints, lent)
	}
	if err := r.home.UpdateClientConnState(s); err != nil {
		return err
	}
	if pending {
		r.home.remember(nil)
	} else {
		r.home.remember(&lent)
	}
	r.do(func() {
		r.told, r.lent, r.config = told, lent, s
		if told != nil {
			r.tells = told.Client.CallsLeave
		}
		r.crossing.offer(offers, r.home.now())
	})
	return nil
}

// ResolverError implements [balancer.Balancer].
func (r *regions) ResolverError(err error) { r.home.ResolverError(err) }

// UpdateSubConnState is deprecated by gRPC: SubConns have listeners.
func (r *regions) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle implements [balancer.Balancer].
func (r *regions) ExitIdle() {
	r.home.ExitIdle()
	r.do(func() {
		if r.away != nil {
			r.away.ExitIdle()
		}
	})
}

// Close ends both policies.
func (r *regions) Close() {
	r.do(func() {
		if r.crossing.leaving() && r.tells != nil {
			r.tells(false)
		}
		r.closed = true
		if r.waking != nil {
			r.waking.Stop()
		}
	})
	r.home.Close()
	if r.away != nil {
		r.away.Close()
	}
}

// crosser picks at home, or away what home cannot take.
type crosser struct {
	regions   *regions
	home      *picker
	away      balancer.Picker // nil: it is not open yet
	awayReady bool
	asked     atomic.Bool
}

// Pick implements [balancer.Picker]. A call that names its instance stays at home, as does one for the leader.
func (x *crosser) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	o := calloptions.Of(info.Ctx)
	if o.Named || x.home.leader.has(info.FullMethodName) {
		return x.home.Pick(info)
	}
	keeps := x.home.keeps(&info, o)
	switch {
	case keeps.waits && !x.awayReady:
		return x.home.Pick(info)
	case keeps.n > 0 && keeps.takes(x.regions.sequence.Next()):
		return x.home.Pick(info)
	}
	x.ask(keeps.nobody)
	err := balancer.ErrNoSubConnAvailable
	if x.away != nil {
		var result balancer.PickResult
		if result, err = x.away.Pick(info); err == nil {
			return result, nil
		}
	}
	if keeps.n == 0 && !keeps.last && errors.Is(err, balancer.ErrNoSubConnAvailable) {
		return balancer.PickResult{}, err
	}
	result, homeErr := x.home.Pick(info)
	if homeErr == nil || errors.Is(homeErr, balancer.ErrNoSubConnAvailable) {
		return result, homeErr
	}
	return balancer.PickResult{}, fmt.Errorf("%w; nor in the cluster to fall back on: %s", homeErr, err.Error())
}

// ask reports that a call has to leave: once a crosser, but each time for an empty strict lane.
func (x *crosser) ask(nobody bool) {
	r := x.regions
	if nobody && !r.nobody.Load() {
		r.nobody.Store(true)
	}
	if x.asked.Load() || x.asked.Swap(true) {
		return
	}
	r.queue.Put(func() { r.crossing.asked(x.home.epoch, r.home.now()) })
}

// kept is the fraction of calls that home takes.
type kept struct {
	fraction
	waits  bool // none yet: its endpoints are tried, and not late
	last   bool // only as the last resort
	nobody bool // none: they are for a strict lane without an endpoint
}

var (
	keepsAll  = kept{fraction: allCalls}
	keepsNone = kept{fraction: noCalls}
)

// keeps returns the fraction that home takes of calls like this one.
func (p *picker) keeps(info *balancer.PickInfo, o *calloptions.Options) kept {
	if k, ok := p.keepsAny(); ok {
		return k
	}
	r, err := p.plan.route(info, o)
	if err != nil {
		return kept{fraction: noCalls, nobody: true}
	}
	return p.keptOf(r)
}

// keepsAny returns the fraction of calls that home takes, if it is the same for all.
func (p *picker) keepsAny() (k kept, ok bool) {
	var state connectivity.State
	switch {
	case p.before != nil:
		return keepsAll, true
	case p.connects && p.plan.instead == nil:
		return k, false
	case p.connects:
		return kept{fraction: noCalls, last: true}, true
	case p.plan.instead != nil:
		state = p.plan.instead.state
	case p.plan.child != nil:
		state = p.plan.child.State()
	default:
		return k, false
	}
	switch state {
	case connectivity.TransientFailure:
		return keepsNone, true
	case connectivity.Connecting:
		return kept{fraction: noCalls, waits: !p.late}, true
	}
	return keepsAll, true
}

// keptOf returns the fraction that home takes of the calls of a route.
func (p *picker) keptOf(r *route) kept {
	s := r.first.asOf(p.epoch, true)
	if s.toBase && r.then != nil {
		s = r.then.asOf(p.epoch, true)
	}
	return kept{fraction: s.keeps, waits: len(s.groups) == 0 && !s.toBase, last: s.last && len(s.groups) > 0}
}

// lacks reports whether home leaves calls of a known route to the other cluster. While its endpoints are tried and not late, the
// answer is as before.
func (p *picker) lacks(before bool) bool {
	lacks := func(k kept) bool { return k.fraction != allCalls && (before || !k.waits) }
	if k, ok := p.keepsAny(); ok {
		return lacks(k)
	}
	return slices.ContainsFunc(p.plan.routes(), func(r *route) bool { return lacks(p.keptOf(r)) })
}
