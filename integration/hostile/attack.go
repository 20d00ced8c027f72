package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// attack is what a way of writing has at hand.
type attack struct {
	*world
	keys   *clientv3.Client // the writer's
	config *clientv3.Client // the operator's
	link   *link            // the caller's to etcd; nil unless the way has one

	puts, bytes atomic.Int64 // that etcd has taken

	mu  sync.Mutex
	err error // the last refusal
}

func (w *world) newAttack() (*attack, error) {
	keys, err := w.clientOf(userWriter)
	if err != nil {
		return nil, err
	}
	config, err := w.clientOf(userOperator)
	if err != nil {
		keys.Close()
		return nil, err
	}
	return &attack{world: w, keys: keys, config: config}, nil
}

func (a *attack) close() {
	a.keys.Close()
	a.config.Close()
}

// failure says why nothing was written, if nothing was.
func (a *attack) failure() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.puts.Load() == 0 {
		return errors.Join(errors.New("nothing was written"), a.err)
	}
	return nil
}

// note counts what was written, unless etcd refused it.
func (a *attack) note(puts, bytes int, err error) {
	if err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.err = err
		return
	}
	a.puts.Add(int64(puts))
	a.bytes.Add(int64(bytes))
}

// put puts a hostile entry.
func (a *attack) put(ctx context.Context, instance, value string, opts ...clientv3.OpOption) {
	_, err := a.keys.Put(ctx, hostileKeys+mark+instance, value, opts...)
	a.note(1, len(instance)+len(value), err)
}

// delete deletes a hostile entry.
func (a *attack) delete(ctx context.Context, instance string) {
	_, err := a.keys.Delete(ctx, hostileKeys+mark+instance)
	a.note(0, 0, err)
}

// putConfig puts the live config of the hostile service.
func (a *attack) putConfig(ctx context.Context, text string) {
	_, err := a.config.Put(ctx, hostileConfig, text)
	a.note(1, len(text), err)
}

// putAll puts hostile entries.
func (a *attack) putAll(ctx context.Context, entries iter.Seq2[string, string]) {
	a.putUnder(ctx, hostileKeys, entries)
}

// stand puts n candidates for the leadership, which stay for a minute.
func (a *attack) stand(ctx context.Context, n int, instance func(i int) string) {
	const together = 128 // on a lease: for each key put, etcd checks the rights to all keys on its lease
	for first := 0; first < n && ctx.Err() == nil; first += together {
		lease, err := a.keys.Grant(ctx, 60)
		if err != nil {
			a.note(0, 0, err)
			return
		}
		a.putUnder(ctx, hostileCandidates, func(yield func(string, string) bool) {
			for i := range min(together, n-first) {
				if !yield(fmt.Sprintf("%06d", first+i), instance(first+i)) {
					return
				}
			}
		}, clientv3.WithLease(lease.ID))
	}
}

// putUnder puts hostile values under a prefix, in transactions as large as etcd takes them.
func (a *attack) putUnder(ctx context.Context, prefix string, entries iter.Seq2[string, string], opts ...clientv3.OpOption) {
	const ops, size = 128, 1 << 20
	var batch []clientv3.Op
	bytes := 0
	flush := func() {
		if len(batch) > 0 {
			_, err := a.keys.Txn(ctx).Then(batch...).Commit()
			a.note(len(batch), bytes, err)
		}
		batch, bytes = nil, 0
	}
	seen := make(map[string]bool) // in the batch, for a transaction has each key once
	for instance, value := range entries {
		if ctx.Err() != nil {
			return
		}
		if len(batch) == ops || bytes+len(value) > size || seen[instance] {
			flush()
			clear(seen)
		}
		seen[instance] = true
		batch = append(batch, clientv3.OpPut(prefix+mark+instance, value, opts...))
		bytes += len(instance) + len(value)
	}
	flush()
}

// unseat deletes the first candidate for the leadership, whoever's it is.
func (a *attack) unseat(ctx context.Context) {
	first, err := a.keys.Get(ctx, hostileCandidates, append(clientv3.WithFirstCreate(), clientv3.WithKeysOnly())...)
	if err == nil && len(first.Kvs) > 0 {
		_, err = a.keys.Delete(ctx, string(first.Kvs[0].Key))
		a.note(1, 0, err)
		return
	}
	a.note(0, 0, err)
}

// elected are the methods whose calls go to the leader.
var elected = []string{basic.Greeter_SayHello_FullMethodName}

// laneOf is the lane of the nth call of the hostile service, and of the nth entry where entries say lanes.
func laneOf(n int) string { return "lane-" + strconv.Itoa(n%600) }

// puts is a write of n entries.
func puts(n int, value func(a *attack, i int) string) func(context.Context, *attack) {
	return func(ctx context.Context, a *attack) {
		a.putAll(ctx, numbered(n, func(i int) string { return value(a, i) }))
	}
}

// flips is a write of n entries again and again. value is told which time it is.
func flips(n int, value func(a *attack, round, i int) string) func(context.Context, *attack) {
	return func(ctx context.Context, a *attack) {
		forever(ctx, func(round int) {
			a.putAll(ctx, numbered(n, func(i int) string { return value(a, round, i) }))
		})
	}
}

// serving and closing are the addresses with a number of the traps that are used most.
func (a *attack) serving(n int) string { return a.traps.addr(a.traps.serving, n) }
func (a *attack) closing(n int) string { return a.traps.addr(a.traps.closing, n) }

// forever calls f with 0, 1, 2 and so on until ctx ends, one call after the other.
func forever(ctx context.Context, f func(n int)) {
	for n := 0; ctx.Err() == nil; n++ {
		f(n)
	}
}

// every calls f at a rate a second until ctx ends, or more slowly where f takes longer.
func every(ctx context.Context, rate int, f func(n int)) {
	for n := range ticks(ctx, time.Second/time.Duration(rate)) {
		f(n)
	}
}

// crowd runs f n times at once.
func crowd(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}

// numbered are n entries by number.
func numbered(n int, value func(i int) string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for i := range n {
			if !yield(fmt.Sprintf("%06d", i), value(i)) {
				return
			}
		}
	}
}

// entry is a value in the layout ENDPOINT_JSON. Metadata are pairs of names and JSON.
func entry(addr string, metadata ...string) string {
	var s strings.Builder
	fmt.Fprintf(&s, `{"Op":0,"Addr":%q,"Metadata":{`, addr)
	for i := 0; i < len(metadata); i += 2 {
		if i > 0 {
			s.WriteByte(',')
		}
		fmt.Fprintf(&s, "%q:%s", metadata[i], metadata[i+1])
	}
	s.WriteString("}}")
	return s.String()
}

// text is JSON text of a length, different for each n.
func text(n, length int) string {
	return fmt.Sprintf(`"%s%d"`, strings.Repeat("m", max(0, length-10)), n)
}

// policy is a service config that names one load balancing policy.
func policy(text string) string { return `{"loadBalancingConfig":[` + text + `]}` }
