// Package leader is for services with a leader: the proto of such a service, or
// of a method, has "to: LEADER". Its generated code imports this package for
// [Methods]. The registry elects one of the registered instances. Callers send
// the calls of these methods, the leader calls, to that instance, with the
// token of its leadership. For servers there are:
//
//   - [Guard] makes a server refuse calls that are for another leader, and ends calls that outlive its leadership;
//   - [Leadership.Run] runs the leader's own work;
//   - [Leadership.Check] and [Leadership.Token] are for handlers;
//   - [Fence] is for a store that successive leaders write to.
//
// For example, with desc as the description in generated code, and a store that
// calls [Fence.Admit] with the token:
//
//	server := registry.NewServer(grpc.NewServer(leader.Guard(registry, desc)...))
//	counterpb.RegisterCounterServerToEtcd(server, counter)
//	go func() {
//		for ctx.Err() == nil { // again after the work has failed
//			err := leader.Of(server, desc).Run(context.WithoutCancel(ctx), store.Compact) // returns when its context ends
//			log.Print(err)
//			time.Sleep(time.Second)
//		}
//	}()
//	err := server.Serve(ctx, listener)
//
// A leader resigns on [Leadership.Resign], when its work fails, when it is
// drained, withdrawn or paused, when another process takes its entry over, and
// when its server drains or its registry is closed. It steps down when it could
// not renew its lease for nine tenths of the TTL. After a sleep of its machine,
// calls wait for etcd's answer, which also ends contexts. So two instances
// never admit calls at once, unless a candidate's key is deleted by force or
// etcd is restored from a backup. But code that ignores its context goes on,
// and a request to a store may arrive late: a store that two leaders must not
// write to needs a fence.
package leader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/extension"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader/internal/election"
)

// TokenHeader is the request metadata with the token of the leader that a call
// is for, in decimal.
const TokenHeader = "etcd-leader-token"

// callHeader is the request metadata with the id of a leader call. The id tells
// a refusal of the caller's own call from one that a handler passed on.
const callHeader = "etcd-leader-call"

// refusedTrailer is the response metadata of a call that an instance has
// refused before its handler ran, because the instance does not lead with the
// call's token. The trailer's value is the call's id, because a handler may
// pass on the trailer of a call that it made.
const refusedTrailer = "etcd-leader-refused"

// ErrEnded is the cause with which contexts from [Leadership.Run] and [Guard]
// end with the leadership, a stream's perhaps earlier.
var ErrEnded = election.ErrEnded

// Methods are the methods of a service whose calls go to the leader, such as
// "/helloworld.Greeter/SayHello". They are the Extension of the service's
// description in generated code. Without methods, the service has no leader.
type Methods []string

type hooks = extension.Hooks

// Extend implements [runtime.Extension].
func (m Methods) Extend(service string) (hooks, error) {
	if len(m) == 0 {
		return hooks{}, nil
	}

	for _, method := range m {
		if !strings.HasPrefix(method, "/"+service+"/") {
			return hooks{}, fmt.Errorf(
				"leader.Methods has the method %.200q: want %q and its name", method,
				"/"+service+"/")
		}
	}

	return hooks{Methods: m, Companion: election.Of, Route: m.route}, nil
}

// Leadership is a process's part in the election of a service. Its methods are
// safe for concurrent use.
type Leadership struct {
	process any // of the function Of
	key     string
	methods []string
	err     error // the error of Of, which every method returns
}

// Of returns the leadership of a service in process, which is a server or, if
// the server does not exist yet, a registry for all its servers. A process with
// several servers of a service uses one registry for each server, or calls Of
// with the server. Of does no I/O, and the server need not be announced yet.
func Of[P *runtime.Registry | *runtime.Server](
	process P,
	desc *runtime.ServiceDesc,
) *Leadership {
	l := &Leadership{process: process}
	if desc == nil {
		l.err = errors.New("etcd: the service description is nil")
		return l
	}

	var h hooks
	if desc.Extension != nil {
		h, l.err = desc.Extension.Extend(desc.Name)
	}

	l.key = desc.Key
	l.methods = slices.Clone(h.Methods)

	if l.err == nil && len(h.Methods) == 0 {
		l.err = fmt.Errorf("etcd: no call of service %s goes to a leader: give a method the option `to: LEADER` in its proto, or Extension: leader.Methods in its description", desc.Name)
	}

	return l
}

// Holds reports whether an instance of the process leads now.
func (l *Leadership) Holds() bool {
	_, ok := l.Token()
	return ok
}

// Token returns the token of the leadership. ok is false if no instance of the
// process leads now. A later leader has a higher token.
func (l *Leadership) Token() (token int64, ok bool) {
	now, _ := l.now()
	return now.token, now.token != 0
}

// state is the part of a process in an election, at one moment.
type state struct {
	*election.Election // in which an instance leads; nil if none does

	token     int64           // 0 if none leads
	candidate bool            // an instance is a candidate
	changed   <-chan struct{} // closed when the state may have changed
}

// now returns the state of the process. After an error, no instance will ever
// be a candidate.
func (l *Leadership) now() (now state, err error) {
	if l.err != nil {
		return now, l.err
	}

	all, changed, err := extension.CompanionsOf(l.process, l.key)
	if err != nil {
		return now, fmt.Errorf("etcd: look up the leadership of %q: %w", l.key, err)
	}

	now.changed = changed
	for _, companion := range all {
		one := companion.(*election.Election)
		term, err := one.Term()
		if err != nil {
			continue // the candidate's registration is closed
		}

		now.candidate = true

		if term.Token != 0 {
			now.Election = one
			now.token = term.Token
		}
	}

	return now, nil
}

// Check returns an error unless this process leads now, and the call with ctx
// carries the token of this leadership. The error is a status. It is
// FAILED_PRECONDITION if the call has no token, because its caller does not
// send it to the leader. Otherwise it is UNAVAILABLE, also after a step of the
// clock until etcd has answered. A handler may call Check again before its
// effects.
func (l *Leadership) Check(ctx context.Context) error {
	_, _, err := l.check(ctx)
	return err
}

// check does the work of Check. It also returns the election in which this
// process leads, and the token.
func (l *Leadership) check(ctx context.Context) (*election.Election, int64, error) {
	given, err := tokenOf(ctx)
	if err != nil {
		return nil, 0, status.Error(codes.FailedPrecondition, err.Error())
	}

	now, err := l.now()
	switch {
	case err != nil:
		return nil, 0, status.Error(codes.Unavailable, err.Error())
	case now.token == given:
		return now.Election, given, nil

	case now.token != 0:
		return nil, 0, status.Errorf(codes.Unavailable,
			"etcd: the call is for the leader of %q with the token %d, but this leader has the token %d",
			l.key, given, now.token)

	case !now.candidate:
		return nil, 0, status.Errorf(codes.Unavailable,
			"etcd: this instance does not lead %q: it is not registered", l.key)
	}

	return nil, 0, l.notLeader()
}

// notLeader returns the error of a call to a candidate that does not lead.
func (l *Leadership) notLeader() error {
	return status.Errorf(codes.Unavailable, "etcd: this instance does not lead %q", l.key)
}

// callID returns the id of the leader call that ctx is from, "" if it has none.
func callID(ctx context.Context) string {
	return strings.Join(metadata.ValueFromIncomingContext(ctx, callHeader), "")
}

// tokenOf returns the token of a call.
func tokenOf(ctx context.Context) (int64, error) {
	tokens := metadata.ValueFromIncomingContext(ctx, TokenHeader)
	if len(tokens) != 1 {
		return 0, fmt.Errorf("etcd: the call has %d leader tokens, want one: call through a generated client, without runtime.WithTarget",
			len(tokens))
	}

	token, err := strconv.ParseInt(tokens[0], 10, 64)
	if err != nil || token <= 0 {
		return 0, fmt.Errorf(
			"etcd: invalid leader token %.40q of the call: want a number above 0",
			tokens[0])
	}

	return token, nil
}

// Resign ends the leadership of the process, and the next candidate takes over.
// The entries of the process stay in etcd. This instance becomes the last
// candidate, so it leads again at once if it is alone.
//
// Resign first waits for unary calls, as [Guard] says, but not for the call
// whose handler calls Resign with its context. If ctx ends before the calls,
// Resign ends the leadership at once, and returns an error. It also returns an
// error if no instance of the process leads.
func (l *Leadership) Resign(ctx context.Context) error {
	now, err := l.now()
	switch {
	case err != nil:
		return err
	case now.Election == nil:
		return fmt.Errorf(
			"etcd: resign the leadership of %q: no instance of the process holds it",
			l.key)
	}

	err = now.Resign(ctx, now.token)
	if err != nil {
		return fmt.Errorf("etcd: resign the leadership of %q: %w", l.key, err)
	}

	return nil
}

// Run calls f whenever an instance of the process begins to lead, with the
// token and a context that ends with the leadership.
//
// If f returns during its leadership, Run returns f's error. If the error is
// not nil, or f panics, Run first resigns within a second, as
// [Leadership.Resign] does. The instance may lead again, so call Run again. Run
// ignores the result of f after the end of its leadership, and calls f again
// only once f has returned. Resigning does not wait for f: this or another
// instance may lead before f has returned.
//
// Run returns the cause when ctx ends. It returns an error when no instance of
// the process can be a candidate any more: the server has ended, or the
// registry is closed or cannot be used.
//
// Run may be called before the server is announced. A server that stops waits
// for the handlers of leader calls. If these wait for f, the context of Run
// should outlive that of [runtime.Server.Serve].
func (l *Leadership) Run(
	ctx context.Context,
	f func(ctx context.Context, token int64) error,
) error {
	for {
		now, err := l.now()
		if err != nil {
			return err
		}

		if ctx.Err() != nil {
			return context.Cause(ctx)
		}

		if now.Election != nil {
			leading, done, ok := now.Lead(ctx, now.token)
			if ok {
				ended, err := work(leading, now, f)
				done()

				if !ended {
					return err
				}

				continue
			}
		}

		select { // also while the leader resigns
		case <-now.changed:
		case <-ctx.Done():
		}
	}
}

// work calls f, whose context is leading, in a term. If f fails or panics, work
// resigns.
func work(
	leading context.Context,
	term state,
	f func(context.Context, int64) error,
) (ended bool, err error) {
	failed := true
	defer func() {
		if failed {
			ctx, cancel := context.WithTimeout(leading, time.Second)
			defer cancel()

			// after an error, the callers of unfinished calls get an error, too
			_ = term.Resign(ctx, term.token)
		}
	}()

	err = f(leading, term.token)
	ended = leading.Err() != nil
	failed = err != nil && !ended

	return ended, err
}

// Fence refuses the tokens of earlier leaders. A store that several leaders may
// write to calls Admit before each write, in the same critical section or
// transaction. The zero value has seen no token; a store that outlives its
// process keeps the highest token with its data. A Fence is safe for concurrent
// use.
//
// A Fence cannot distinguish two leaders with the same token, which are
// possible after etcd was restored from a backup without bumping its revision.
type Fence struct {
	mu      sync.Mutex
	highest int64
}

// Admit returns an error if the fence has seen a higher token, or if the token
// is below 1. Otherwise it records the token.
func (f *Fence) Admit(token int64) error {
	if token <= 0 {
		return fmt.Errorf("etcd: invalid leader token %d: want a number above 0", token)
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	if token < f.highest {
		return fmt.Errorf("etcd: the token %d is an earlier leader's: %d has been seen (or etcd was wiped, or restored from a backup without --bump-revision)",
			token, f.highest)
	}

	f.highest = token

	return nil
}
