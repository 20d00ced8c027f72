package balancer

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// below is a policy that is not ours, which picks among what selector, drain and subset leave. It makes connections of its
// own. Its methods are called one after another in a goroutine, so that nothing waits for it.
type below struct {
	balancer.ClientConn                 // gRPC's, or that of a policy above
	config              *belowConfig    // the last; guarded by policy.calls
	spawn               func(func())    // runs a function in a goroutine of its own
	changed             func()          // called when it has published something
	broken              func(why error) // called when it has panicked

	// Used by the goroutine alone.
	balancer balancer.Balancer
	dead     bool // it has panicked, and may have left locks locked

	mu       sync.Mutex
	calls    []func()
	running  bool
	told     balancer.State
	subConns []balancer.SubConn
	closed   bool
}

// call calls the policy below.
func (b *below) call(f func(balancer.Balancer)) { b.put(func() { f(b.balancer) }) }

// put has f called after what was put before.
func (b *below) put(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.calls = append(b.calls, f); !b.running {
		b.running = true
		b.spawn(b.run)
	}
}

// run calls what was put, until there is nothing.
func (b *below) run() {
	for {
		b.mu.Lock()
		calls := b.calls
		b.calls = nil
		b.running = len(calls) > 0
		b.mu.Unlock()
		if len(calls) == 0 {
			return
		}
		for _, f := range calls {
			if b.dead {
				continue
			}
			if err := recovered(func() error { f(); return nil }); err != nil {
				b.dead = true
				b.broken(err)
			}
		}
	}
}

// close ends the policy below, and what it has left open.
func (b *below) close() {
	b.mu.Lock()
	closed := b.closed
	b.closed = true
	left := b.subConns
	b.subConns = nil
	b.mu.Unlock()
	if !closed {
		b.put(func() { b.balancer.Close() })
	}
	for _, subConn := range left {
		subConn.Shutdown()
	}
}

// state returns what the policy below has published last.
func (b *below) state() balancer.State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.told
}

// UpdateState implements [balancer.ClientConn].
func (b *below) UpdateState(s balancer.State) {
	if s.Picker == nil {
		s.Picker = connecting().Picker
	}
	b.mu.Lock()
	b.told = s
	b.mu.Unlock()
	b.changed()
}

var errClosed = errors.New("etcd: the policy is closed: no new SubConns")

// NewSubConn implements [balancer.ClientConn].
func (b *below) NewSubConn(addrs []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return nil, errClosed // gRPC's lazy policies may be woken after they were closed
	}
	var subConn balancer.SubConn
	listener := opts.StateListener
	opts.StateListener = func(s balancer.SubConnState) {
		if s.ConnectivityState == connectivity.Shutdown {
			b.forget(subConn)
		}
		b.call(func(child balancer.Balancer) {
			if listener != nil {
				listener(s)
			} else {
				child.UpdateSubConnState(subConn, s) //nolint:staticcheck // deprecated, but counted on by somebody
			}
		})
	}
	subConn, err := b.ClientConn.NewSubConn(addrs, opts)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		subConn.Shutdown()
		return nil, errClosed
	}
	b.subConns = append(b.subConns, subConn)
	return subConn, nil
}

func (b *below) forget(subConn balancer.SubConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subConns = slices.DeleteFunc(b.subConns, func(s balancer.SubConn) bool { return s == subConn })
}

// pick picks by the policy below.
func (b *below) pick(info balancer.PickInfo) (balancer.PickResult, error) {
	var result balancer.PickResult
	err := recovered(func() (err error) {
		result, err = b.state().Picker.Pick(info)
		return err
	})
	return result, err // of a panic, which gRPC would not catch, too
}

// connecting is the state of a policy below before it has said anything.
func connecting() balancer.State {
	return balancer.State{ConnectivityState: connectivity.Connecting, Picker: base.NewErrPicker(balancer.ErrNoSubConnAvailable)}
}

// recovered calls f, which runs code of others, and returns its error or, if it panics, the panic as an
// error.
func recovered(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("panic: %s", printable.Short(fmt.Sprint(value), 200))
		}
	}()
	return f()
}
