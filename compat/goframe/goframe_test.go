// Package goframe tests that GoFrame's servers and callers work together with
// ours.
package goframe

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	etcd "github.com/gogf/gf/contrib/registry/etcd/v2"
	"github.com/gogf/gf/v2/net/gsvc"
	"github.com/gogf/gf/v2/os/glog"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var user = &runtime.ServiceDesc{
	Name:   "basic.Greeter",
	Key:    "/service/default/default/user/latest",
	Layout: runtime.GoFrame,
}

// theirs returns a GoFrame registry, which cannot be closed: its etcd client
// ends with the process.
func theirs(w *world.World) *etcd.Registry {
	logger := glog.New()
	logger.SetStdoutPrint(false)

	return etcd.New(strings.Join(w.Etcd.Endpoints(), ","), etcd.Option{Logger: logger})
}

// register registers a service with the addresses of one server.
func register(t *testing.T, w *world.World, version string, metadata gsvc.Metadata, addrs string) {
	t.Helper()

	s := &gsvc.LocalService{
		Name:      "user",
		Version:   version,
		Endpoints: gsvc.NewEndpoints(addrs),
		Metadata:  metadata,
	}
	if _, err := theirs(w).Register(w.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// list returns what GoFrame's reader lists, with one line for all servers of a
// version.
func list(w *world.World, service string) (all []string, err error) {
	services, err := theirs(w).Search(w.Context(), gsvc.SearchInput{Name: service})
	for _, s := range services {
		addrs := strings.Split(s.GetEndpoints().String(), ",")
		slices.Sort(addrs)
		all = append(all, fmt.Sprintf("%s %v %v", s.GetVersion(), addrs, s.GetMetadata()))
	}

	return all, err
}

// GoFrame's reader lists all servers of a version as one service, with the
// metadata of the first key.
func TestBothDirections(t *testing.T) {
	w := world.New(t)
	const a, b, c = "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"
	ours := runtime.Endpoint{
		Instance: "host-1",
		Addr:     a,
		Version:  "v3",
		Zone:     "eu-1b",
		Weight:   5,
		Metadata: map[string]string{"k": "w"},
	}

	w.Register(user.Key, ours, runtime.GoFrame)
	register(t, w, "", gsvc.Metadata{
		"protocol": "grpc",
		"weight":   7,
		"secure":   false,
		"version":  "v2",
		"zone":     "eu-1a",
	}, b)

	register(t, w, "", nil, c+",127.0.0.1:4")
	register(t, w, "latest-2", nil, "127.0.0.1:9")
	ours.Instance = a // GoFrame's keys end in the address
	atC := runtime.Endpoint{Instance: c + ",127.0.0.1:4", Addr: c}
	atB := runtime.Endpoint{
		Instance: b,
		Addr:     b,
		Version:  "v2",
		Zone:     "eu-1a",
		Weight:   7,
		Metadata: map[string]string{"protocol": "grpc", "secure": "false"},
	}
	world.Becomes(w, "we read", w.Watch(user.Key), ours, atC, atB)

	world.Becomes(w, "they list", func() ([]string, error) { return list(w, "user") },
		"latest [127.0.0.1:1 127.0.0.1:2 127.0.0.1:3 127.0.0.1:4] map[k:w version:v3 weight:5 zone:eu-1b]",
		"latest-2 [127.0.0.1:9] map[]")
}

func TestSecondLayout(t *testing.T) {
	key := func(service string) string { return "/service/default/default/" + service + "/latest" }
	reads := func(w *world.World, service, addr string) (does string) {
		defer func() {
			if recover() != nil {
				does = "panics"
			}
		}()

		all, err := list(w, service)
		switch {
		case err != nil:
			return "gives up"
		case !slices.Equal(all, []string{"latest [" + addr + "] map[k:v version:v2 weight:7]"}):
			return fmt.Sprintf("lists %v", all)
		}

		return ""
	}

	world.Beside(t, endpoint.GoFrame, key, reads)
}

// A layout that GoFrame's reader cannot parse ends the caller's process: the
// resolver panics in its own goroutine, where the caller cannot recover.
func TestOldCaller_DiesOfBadLayouts(t *testing.T) {
	for name, second := range map[string]runtime.Layout{
		"lives": runtime.LeaseSuffix,
		"dies":  runtime.GoZero,
	} {
		t.Run(name, func(t *testing.T) {
			w := world.New(t)
			w.StartServer(user.Key, "server", w.EtcdAddr(), "old")
			caller := w.Start("caller", w.EtcdAddr())
			prints := func(line string) {
				w.Eventually(caller.Output, func() bool {
					return strings.Contains(caller.Output(), line)
				})
			}

			prints("answered by old\n")
			w.Publish("new", user, runtime.WithLayouts(runtime.GoFrame, second),
				runtime.WithInstance("host-1"))

			if name == "lives" {
				prints("answered by new\n")
			} else if output := caller.Dies(); !strings.Contains(output, "panic: ") {
				t.Errorf("the caller ended with the output %s, want a panic", output)
			}
		})
	}
}
