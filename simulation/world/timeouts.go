package world

import (
	"context"
	"encoding/json"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// methodConfig is what a service config says of all methods.
type methodConfig struct {
	timeout time.Duration // 0: none
	waits   bool          // for an instance that is ready
}

// methodsOf returns what the first of these service configs that says anything of methods says of them.
func methodsOf(configs ...string) methodConfig {
	for _, config := range configs {
		var parsed struct {
			MethodConfig []struct {
				Timeout      string
				WaitForReady bool
			}
		}
		if err := json.Unmarshal([]byte(config), &parsed); err != nil || len(parsed.MethodConfig) == 0 {
			continue
		}
		m := parsed.MethodConfig[0]
		timeout, _ := time.ParseDuration(m.Timeout) // none if it says none
		return methodConfig{timeout, m.WaitForReady}
	}
	return methodConfig{}
}

// methodsNow returns what the config in force says of methods, where generated is that of the connection. While etcd has a bad
// one, it is not known.
func (w *World) methodsNow(generated string) (m methodConfig, known bool) {
	live, ok := w.etcd.Get(configKey)
	return methodsOf(live.Value, generated), !ok || !schedule.BadConfig(live.Value)
}

// waits reports whether calls wait for an instance that is ready, or may.
func (w *World) waits(generated string) bool {
	now, known := w.methodsNow(generated)
	return now.waits || !known
}

// longestWait returns how long a call of the shop may take by the method's timeout, 0 if none bounds it. A caller that may not
// have heard of the live config may go by any that etcd has had.
func (w *World) longestWait(generated string, settled bool) time.Duration {
	now, known := w.methodsNow(generated)
	if settled && known {
		return now.timeout
	}
	longest := methodsOf(generated).timeout
	if longest == 0 {
		return 0
	}
	for _, c := range w.since(time.Time{}) {
		if c.Key != configKey || c.Delete || schedule.BadConfig(c.Value) {
			continue
		}
		timeout := methodsOf(c.Value, generated).timeout
		if longest = max(longest, timeout); timeout == 0 {
			return 0
		}
	}
	return longest
}

const (
	// patience is the deadline of calls whose method's timeout is to end them.
	patience = 10 * time.Second
	// noticing is how long callers take to notice that they are cut off.
	noticing = time.Second
)

// wrongTimeouts has each caller whose methods have a timeout call instances that do not answer, and, if its calls wait for
// instances that are ready, some that it cannot reach. It reports calls that do not end with the timeout.
func (w *World) wrongTimeouts(ctx context.Context) {
	for _, c := range w.callers {
		methods, known := w.methodsNow(c.spec.Policy)
		if !known || methods.timeout == 0 {
			continue
		}
		w.callInVain(ctx, c, methods, network.Link{Stalled: true})
		if methods.waits {
			w.callInVain(ctx, c, methods, network.Link{Cut: true})
		}
	}
}

// callInVain has a caller make a call while its links to all servers are as given.
func (w *World) callInVain(ctx context.Context, c *caller, methods methodConfig, link network.Link) {
	set := func(l network.Link) {
		for i := range w.plan.Processes() {
			w.network.Set(w.plan.Host(i), c.from, l)
			w.noteLink(c.index, c.from, i, l)
		}
	}
	set(link)
	defer set(network.Link{})
	time.Sleep(noticing)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	_, err := ask(ctx, c.clients.shop, shopWho)
	took := time.Since(began)
	if status.Code(err) != codes.DeadlineExceeded || (took-methods.timeout).Abs() > slack {
		w.report(check.Timeouts, "a call of %s with %s, which should end after %v, ended after %v: %v", c.name(), describeLink(link), methods.timeout, took, err)
	}
}

func describeLink(l network.Link) string {
	if l.Cut {
		return "all servers cut off"
	}
	return "all servers a black hole"
}
