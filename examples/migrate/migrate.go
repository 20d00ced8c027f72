// Package migrate moves a service from go-zero's keys to etcd's own layout, under load and with no
// call lost. Run it from the directory above:
//
//	go run . migrate
//
// What is here before is in old.go: servers that put <key>/<lease id> by themselves, and a caller
// that lists and watches the key and takes the values for addresses. Then, as docs/migration.md has it:
//
//  1. Dual write: servers that write both layouts take the place of the old ones.
//  2. Switch: a caller with a generated client takes the place of the old one.
//  3. Drop: servers that write the new layout alone take the place of those that write both.
//
// Calls go on all the while. It exits with 1 when one of them fails.
package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var key = greeterv1.GreeterService_EtcdServiceDesc.Key

// Example is what the command in the directory above runs.
var Example = show.Example{Name: "migrate", Tell: tell}

func tell(ctx context.Context, stage *show.Stage) error {
	registry, err := stage.Registry()
	if err != nil {
		return err
	}
	m := &migration{stage: stage, servers: registry}
	for _, step := range []func(context.Context) error{m.before, m.dualWrite, m.switchCallers, m.drop, m.conclude} {
		if err = step(ctx); err != nil {
			break
		}
	}
	for _, calls := range []*show.Load{m.oldCalls, m.calls} {
		if calls != nil {
			err = errors.Join(err, calls.Stop())
		}
	}
	return err
}

// migration is what runs at the moment.
type migration struct {
	stage   *show.Stage
	servers *runtime.Registry

	old      []*oldServer
	dual     []*show.Server
	oldCalls *show.Load
	calls    *show.Load
}

// before sets up what there is at the outset.
func (m *migration) before(ctx context.Context) error {
	client := m.stage.Etcd.Admin()
	for _, name := range []string{"old-1", "old-2"} {
		server, err := startOld(ctx, client, name)
		if err != nil {
			return err
		}
		m.old = append(m.old, server)
	}
	caller, err := newOldCaller(client)
	if err != nil {
		return err
	}
	m.oldCalls = show.StartLoad(ctx, caller.client, caller.close)
	return m.told(ctx, "before", m.oldCalls, "old-1", "old-2")
}

func (m *migration) dualWrite(ctx context.Context) error {
	for _, name := range []string{"dual-1", "dual-2"} {
		server, err := m.stage.Greeter(ctx, name, m.servers, runtime.WithLayouts(runtime.GoZero, runtime.EndpointJSON))
		if err != nil {
			return err
		}
		m.dual = append(m.dual, server)
	}
	if err := m.told(ctx, "dual write begins", m.oldCalls, "old-1", "old-2", "dual-1", "dual-2"); err != nil {
		return err
	}
	for _, server := range m.old {
		if err := server.withdraw(ctx); err != nil {
			return err
		}
	}
	if err := m.told(ctx, "the old servers have left", m.oldCalls, "dual-1", "dual-2"); err != nil {
		return err
	}
	for _, server := range m.old {
		server.stop()
	}
	return nil
}

func (m *migration) switchCallers(ctx context.Context) error {
	registry, err := m.stage.Registry()
	if err != nil {
		return err
	}
	client, err := greeterv1.NewGreeterServiceClientFromEtcd(registry, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	m.calls = show.StartLoad(ctx, client, func() {})
	if err := m.told(ctx, "the new caller calls", m.calls, "dual-1", "dual-2"); err != nil {
		return err
	}
	return m.oldCalls.Stop()
}

func (m *migration) drop(ctx context.Context) error {
	for i, name := range []string{"new-1", "new-2"} {
		if _, err := m.stage.Greeter(ctx, name, m.servers); err != nil {
			return err
		}
		now := []string{"dual-1", "dual-2", "new-1", "new-2"}[i : i+3]
		if err := m.told(ctx, name+" takes calls", m.calls, now...); err != nil {
			return err
		}
		if err := m.dual[i].Stop(); err != nil {
			return err
		}
	}
	return m.told(ctx, "the new layout alone", m.calls, "new-1", "new-2")
}

// conclude fails if a call did, or if something is left of the old layout.
func (m *migration) conclude(ctx context.Context) error {
	if err := m.calls.Stop(); err != nil {
		return err
	}
	left, err := m.stage.Etcd.Admin().Get(ctx, key+"/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	for _, kv := range left.Kvs {
		if !strings.HasPrefix(string(kv.Value), "{") {
			return fmt.Errorf("%s is still in the old layout: %s", kv.Key, kv.Value)
		}
	}
	m.stage.Say("%d calls of the old caller and %d of the new one: none failed", m.oldCalls.Total(), m.calls.Total())
	return nil
}

// told waits until calls reach exactly these servers, and says so.
func (m *migration) told(ctx context.Context, title string, calls *show.Load, servers ...string) error {
	err := m.stage.Until(ctx, fmt.Sprintf("%s: calls reach %v", title, servers), func(ctx context.Context) (bool, error) {
		shares, err := calls.Next(ctx, 50*time.Millisecond)
		return shares.Only(servers...), err
	})
	if err != nil {
		return err
	}
	m.stage.Say("%s: calls reach %s", title, strings.Join(servers, ", "))
	return nil
}
