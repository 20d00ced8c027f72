package goframe

import (
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// What becomes of a process of GoFrame's that calls, when a server of ours comes.
const (
	calls = "it calls the server"
	blind = "it lives, and learns of no change"
	dies  = "it ends with a panic"
)

// GO_FRAME alone is safe while GoFrame's callers are there. Over a key that does not end in host:port their resolver
// panics, in a goroutine of its own, so that nobody can recover from it.
func TestOldCallerLivesOrDies(t *testing.T) {
	layouts, instance := runtime.WithLayouts, runtime.WithInstance("host-1")
	for name, tt := range map[string]struct {
		opts []runtime.RegisterOption
		want string
	}{
		"GO_FRAME":                                   {nil, calls},
		"GO_FRAME with an instance id":               {[]runtime.RegisterOption{instance}, calls},
		"GO_FRAME and LEASE_SUFFIX":                  {[]runtime.RegisterOption{layouts(runtime.GoFrame, runtime.LeaseSuffix)}, calls},
		"GO_FRAME and GO_ZERO":                       {[]runtime.RegisterOption{layouts(runtime.GoFrame, runtime.GoZero)}, dies},
		"GO_FRAME and ENDPOINT_JSON, an instance id": {[]runtime.RegisterOption{layouts(runtime.GoFrame, runtime.EndpointJSON), instance}, dies},
		"ENDPOINT_JSON with an instance id":          {[]runtime.RegisterOption{layouts(runtime.EndpointJSON), instance}, dies},
		"PLAIN, whose value is no object":            {[]runtime.RegisterOption{layouts(runtime.Plain)}, blind},
	} {
		t.Run(name, func(t *testing.T) {
			w := world.New(t)
			startTheirs(w, "server", "old")
			caller := startTheirs(w, "caller")
			says := func(what string) func() bool {
				return func() bool { return strings.Contains(caller.Output(), what) }
			}
			w.Eventually(caller.Output, says("answered by old\n"))
			w.Publish("new", user, tt.opts...)
			switch tt.want {
			case calls:
				w.Eventually(caller.Output, says("answered by new\n"))
			case dies:
				if output := caller.Dies(); !strings.Contains(output, "panic: ") {
					t.Errorf("it ended with %s", output)
				}
			case blind:
				w.Eventually(caller.Output, says("watcher.Proceed error"))
				w.Publish("newest", user)
				w.Eventually(caller.Output, func() bool { return strings.Count(caller.Output(), "watcher.Proceed error") > 1 })
				if says("answered by new")() {
					t.Error("it calls a new one")
				}
			}
		})
	}
}
