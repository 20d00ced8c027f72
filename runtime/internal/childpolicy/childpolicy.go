// Package childpolicy runs a balancing policy that is not ours below the policy "etcd".
//
//	config.go       which policy it is, its config, and the configs that have made one panic
//	childpolicy.go  the policy, in a goroutine of its own
package childpolicy

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
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/events"
)

// Child is a policy that is not ours, which picks among the endpoints that it is given. It makes connections of its own. It
// is called by one goroutine at a time, which nothing waits for. Child is safe for concurrent use.
type Child struct {
	Policy string // its name

	balancer.ClientConn // gRPC's, or that of a policy above
	hooks               Hooks
	calls               *events.Queue

	// Used by the goroutine alone.
	balancer balancer.Balancer
	config   *Config // the last
	dead     bool    // it has panicked, and may have left locks locked

	mu       sync.Mutex
	state    balancer.State // the last that it has published
	subConns []balancer.SubConn
	closed   bool
}

// Hooks are what a child calls. They must not wait.
type Hooks struct {
	Spawn   func(func())                  // runs a function in a goroutine of its own
	Changed func()                        // called when the child has published something
	Broken  func(with *Config, why error) // called once, when it has panicked
}

// New builds the policy that a config is for.
func New(cc balancer.ClientConn, opts balancer.BuildOptions, config *Config, hooks Hooks) *Child {
	c := &Child{Policy: config.Policy(), ClientConn: cc, hooks: hooks, config: config, state: connecting()}
	c.calls = events.NewQueue(func() { hooks.Spawn(c.run) })
	c.calls.Put(func() { c.balancer = config.builder.Build(c, opts) })
	return c
}

// run makes the calls that are due.
func (c *Child) run() {
	for calls := c.calls.All(); len(calls) > 0; calls = c.calls.All() {
		for _, call := range calls {
			if c.dead {
				continue
			}
			if err := recovered(func() error { call(); return nil }); err != nil {
				c.dead = true
				c.hooks.Broken(c.config, err)
			}
		}
	}
}

// Update gives the child a state and a config, which must be for the same policy.
func (c *Child) Update(config *Config, s resolver.State) {
	c.calls.Put(func() {
		c.config = config
		// An error would have gRPC ask the resolver again, which has nothing else to say.
		_ = c.balancer.UpdateClientConnState(balancer.ClientConnState{ResolverState: s, BalancerConfig: config.parsed})
	})
}

// ResolverError tells the child of an error of the resolver.
func (c *Child) ResolverError(err error) { c.calls.Put(func() { c.balancer.ResolverError(err) }) }

// ExitIdle has the child connect again.
func (c *Child) ExitIdle() { c.calls.Put(func() { c.balancer.ExitIdle() }) }

// Close ends the child, and what it has left open. It may be called again.
func (c *Child) Close() {
	c.mu.Lock()
	closed, open := c.closed, c.subConns
	c.closed, c.subConns = true, nil
	c.mu.Unlock()
	if !closed {
		c.calls.Put(func() { c.balancer.Close() })
	}
	for _, subConn := range open {
		subConn.Shutdown()
	}
}

// State returns the connectivity that the child has published last, Shutdown once it is closed.
func (c *Child) State() connectivity.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return connectivity.Shutdown
	}
	return c.state.ConnectivityState
}

func (c *Child) published() balancer.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Pick picks by the child's last picker. A panic, which gRPC would not catch, is an error.
func (c *Child) Pick(info balancer.PickInfo) (result balancer.PickResult, err error) {
	err = recovered(func() (err error) {
		result, err = c.published().Picker.Pick(info)
		return err
	})
	return result, err
}

// UpdateState implements [balancer.ClientConn].
func (c *Child) UpdateState(s balancer.State) {
	if s.Picker == nil {
		s.Picker = connecting().Picker
	}
	c.mu.Lock()
	c.state = s
	c.mu.Unlock()
	c.hooks.Changed()
}

var errClosed = errors.New("etcd: the policy is closed: no new SubConns")

// NewSubConn implements [balancer.ClientConn].
func (c *Child) NewSubConn(addrs []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return nil, errClosed // gRPC's lazy policies may be woken after they were closed
	}
	var subConn balancer.SubConn
	listener := opts.StateListener
	opts.StateListener = func(s balancer.SubConnState) {
		if s.ConnectivityState == connectivity.Shutdown {
			c.forget(subConn)
		}
		c.calls.Put(func() {
			if listener != nil {
				listener(s)
			} else {
				c.balancer.UpdateSubConnState(subConn, s) //nolint:staticcheck // deprecated, but counted on by somebody
			}
		})
	}
	subConn, err := c.ClientConn.NewSubConn(addrs, opts)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		subConn.Shutdown()
		return nil, errClosed
	}
	c.subConns = append(c.subConns, subConn)
	return subConn, nil
}

func (c *Child) forget(subConn balancer.SubConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subConns = slices.DeleteFunc(c.subConns, func(s balancer.SubConn) bool { return s == subConn })
}

// connecting is the state of a child that has not published any.
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
