package discovery

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Whoever may write the keys of a service. Who does so here has the role of its servers.

// write puts an entry of the greeter as whoever has its servers' role.
func (w *guarded) write(c *clientv3.Client, instance, value string, opts ...clientv3.OpOption) {
	w.t.Helper()
	_, err := c.Put(kit.Bounded(w.t, soon), guardedKey+"/"+instance, value, opts...)
	must(w.t, err)
}

func TestKeyWriterTakesPlaintextCalls(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	w.register("honest", w.serve(&greeter{name: "honest"}))
	client := w.client(w.registry(w.as("greeter-caller")))
	w.reaches(client, "honest")
	writer := w.as("greeter-server")
	w.write(writer, "honest", fmt.Sprintf(`{"Addr":%q}`, w.serve(&greeter{name: "evil"})))
	w.reaches(client, "evil")
}

func TestKeyWriterTakesTheServiceAway(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	writer := w.as("greeter-server")
	g, err := w.registry(w.as("greeter-server")).Register(kit.Bounded(t, soon), guardedKey, runtime.Endpoint{Addr: "10.0.0.1:80"}, runtime.WithInstance("honest"))
	must(t, err)
	entry := guardedKey + "/honest"
	want := *w.get(entry)
	// A live server puts back what is gone, and what is changed on its lease.
	for _, a := range []attempt{deleting(writer, entry), putting(writer, entry, clientv3.WithIgnoreLease()), revoking(writer, g.Status().LeaseID)} {
		w.allowed(a)
		kit.Eventually(t, soon, "the server puts back what was lost to: "+a.what, func() bool { got := w.get(entry); return got != nil && *got == want })
	}
	// It takes an entry on another lease for a newer process of its name, and leaves that alone.
	w.allowed(putting(writer, entry))
	kit.Eventually(t, soon, "the server gives way", func() bool { return g.Status().State == runtime.StateConflict })
	if got := w.get(entry); got == nil || *got == want {
		t.Errorf("at the entry: %v, want what the writer put", got)
	}
	w.allowed(deleting(writer, entry))
	kit.Eventually(t, soon, "the server is back", func() bool { return g.Status().State == runtime.StateRegistered })
}

// bait listens for connections that nobody should make.
func (w *guarded) bait(host string) (addr string, dialed *atomic.Int64) {
	w.t.Helper()
	lis, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	must(w.t, err)
	dialed = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			dialed.Add(1)
			_ = conn.Close()
		}
	}()
	w.t.Cleanup(func() { _ = lis.Close(); <-done })
	return lis.Addr().String(), dialed
}

func TestKeyWriterHasCallersDialAnyAddress(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	addr, dialed := w.bait("127.0.0.1")
	w.write(w.as("greeter-server"), "bait", addr)
	client := w.client(w.registry(w.as("greeter-caller")))
	kit.Eventually(t, soon, "the caller connects to what is no server of the service", func() bool {
		_, _ = greet(t, client, time.Second)
		return dialed.Load() > 0
	})
}

// Weight, zone, version, the mark of leaving and the list of methods are an entry's own words.
func TestKeyWriterSteersCalls(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	a, b := w.serve(&greeter{name: "a"}), w.serve(&greeter{name: "b"})
	w.register("a", a)
	w.register("b", b)
	client := w.client(w.registry(w.as("greeter-caller")))
	writer := w.as("greeter-server")
	for _, tt := range []struct{ out, in string }{
		{`{"grpc_leaving":"true"}`, `{}`},
		{`{"grpc_methods":"basic.Greeter/Other"}`, `{"grpc_methods":"basic.Greeter/Other,SayHello"}`},
	} {
		w.write(writer, "a", fmt.Sprintf(`{"Addr":%q,"Metadata":%s}`, a, tt.out))
		w.write(writer, "b", fmt.Sprintf(`{"Addr":%q,"Metadata":%s}`, b, tt.in))
		w.reaches(client, "b")
		w.write(writer, "b", fmt.Sprintf(`{"Addr":%q,"Metadata":%s}`, b, tt.out))
		w.write(writer, "a", fmt.Sprintf(`{"Addr":%q,"Metadata":%s}`, a, tt.in))
		w.reaches(client, "a")
	}
}

func TestKeyWriterKeepsADeadServersEntry(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	writer, lease := w.as("greeter-server"), w.grant()
	w.put(guardedKey+"/dead", "10.0.0.1:80", clientv3.WithLease(lease))
	w.allowed(asking(writer, lease, clientv3.WithAttachedKeys()), renewing(writer, lease), hanging(writer, guardedKey+"/other", lease),
		putting(writer, guardedKey+"/dead")) // on no lease from now on
	w.allowed(revoking(writer, lease))
	if w.get(guardedKey+"/dead") == nil {
		t.Error("the entry went with the lease that it no longer hangs on")
	}
}

// An impostor of the same authority, whose certificate is another service's, gets no call, and neither does one
// that speaks plaintext. Nothing in an entry changes the name.
func TestKeyWriterCannotPassForAServerOverTLS(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	ca := newAuthority(t)
	var stolen atomic.Int64
	thief := func(context.Context) error { stolen.Add(1); return nil }
	overTLS := func(name string) grpc.ServerOption {
		return grpc.Creds(credentials.NewServerTLSFromCert(ca.sign(t, name)))
	}
	other := w.serve(&greeter{do: thief}, overTLS("acme.other"))
	plain := w.serve(&greeter{do: thief})
	w.register("honest", w.serve(&greeter{name: "honest"}, overTLS("acme.greeter")))
	client := w.client(w.registry(w.as("greeter-caller")), grpc.WithTransportCredentials(ca.trust()))
	w.reaches(client, "honest")

	writer := w.as("greeter-server")
	for i, addr := range []string{other, plain} {
		for j, extra := range []string{``, `,"ServerName":"acme.other"`, `,"Metadata":{"ServerName":"acme.other","authority":"acme.other","insecure":true,"weight":4294967295}`} {
			w.write(writer, fmt.Sprintf("evil-%d-%d", i, j), fmt.Sprintf(`{"Addr":%q%s}`, addr, extra))
		}
	}
	for range 200 {
		if got, err := greet(t, client, soon); err != nil || got != "honest" {
			t.Fatalf("a call beside impostors: %q, %v", got, err)
		}
	}
	w.allowed(deleting(writer, guardedKey+"/honest"))
	kit.Eventually(t, soon, "calls fail for want of a server with the right certificate", func() bool {
		_, err := greet(t, client, 2*time.Second)
		return err != nil && strings.Contains(err.Error(), "authentication handshake failed")
	})
	if n := stolen.Load(); n > 0 {
		t.Errorf("%d calls reached an impostor", n)
	}
}

func TestKeyWriterCannotTouchOtherKeys(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	writer := w.as("greeter-server")
	w.allowed(touching(writer, guardedKey+"/10.0.0.1:80")...)
	for _, other := range []string{"acme/other/x", guardedKey + "-admin/x", guardedKey + "2/x", guardedKey + "x", guardedKey, "_grpc_config/" + guardedKey, "_grpc_config/acme/other", "prod/" + guardedKey + "/x"} {
		w.denied(touching(writer, other)...)
	}
	w.denied(listing(writer, "acme/", "acme0"), listing(writer, guardedKey, guardedKey+"0"), listing(writer, "\x00", "\x00"))
}

// The leases of other services, those of entries in any case, are out of reach.
func TestKeyWriterCannotTouchOtherLeases(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	lease := w.grant()
	w.put("acme/other/x", "10.0.0.1:80", clientv3.WithLease(lease))
	// The session of one process may hold several services on one lease: to write one of them is not enough.
	shared := w.grant()
	w.put("acme/other/y", "10.0.0.1:80", clientv3.WithLease(shared))
	w.put(guardedKey+"/y", "10.0.0.1:80", clientv3.WithLease(shared))
	writer := w.as("greeter-server")
	for _, id := range []clientv3.LeaseID{lease, shared} {
		w.denied(hanging(writer, guardedKey+"/x", id), revoking(writer, id), renewing(writer, id), asking(writer, id, clientv3.WithAttachedKeys()))
	}
	w.denied(attempt{"list the leases", func(ctx context.Context) error { _, err := writer.Leases(ctx); return err }})
}

// What cannot be read is skipped, and the honest entries serve.
func TestKeyWriterCannotSpoilOtherEntries(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	w.register("honest", w.serve(&greeter{name: "honest"}))
	writer := w.as("greeter-server")
	for i, value := range []string{"", "\x00", "unix:/tmp/x", "unix-abstract:x", "dns:///x:80", "passthrough:///x", `{"Addr":"unix:80"}`,
		`{"Addr":"h:1"`, `{"Addr":5}`, "user@10.0.0.1:80", "10.0.0.1:80\n", strings.Repeat("x", 65<<10)} {
		w.write(writer, fmt.Sprint(i), value)
	}
	registry := w.registry(w.as("greeter-caller"))
	w.reaches(w.client(registry), "honest")
	if set := <-w.follow(registry, guardedKey); len(set) != 1 || set[0].Instance != "honest" {
		t.Errorf("the callers' set is %v, want the honest one alone", set)
	}
}

// Servers of other services register and stay registered while the writer does all it can to etcd.
func TestKeyWriterCannotHurtOtherServices(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	_, err := w.etcd.Admin().RoleAdd(kit.Bounded(t, soon), "other-server")
	must(t, err)
	must(t, command{"role", "grant-permission", "other-server", "--prefix=true", "readwrite", "acme/other/"}.run(kit.Bounded(t, soon), w.etcd.Admin()))
	g, err := w.registry(w.as("other-server")).Register(kit.Bounded(t, soon), "acme/other", runtime.Endpoint{Addr: "10.0.0.1:80"})
	must(t, err)
	events := w.etcd.Admin().Watch(kit.Bounded(t, soon), "acme/other/", clientv3.WithPrefix(), clientv3.WithFilterPut())
	writer, lease := w.as("greeter-server"), g.Status().LeaseID
	w.denied(hanging(writer, guardedKey+"/x", lease), revoking(writer, lease), deleting(writer, "acme/other/10.0.0.1:80"))
	for i := range 50 {
		w.write(writer, fmt.Sprint(i), "10.6.6.6:80", clientv3.WithLease(w.grant()))
	}
	must(t, g.Update(kit.Bounded(t, soon), runtime.WithVersion("v2")))
	if st := g.Status(); st.State != runtime.StateRegistered || st.LeaseID != lease {
		t.Errorf("the other service is %v on lease %x, want registered on %x", st.State, st.LeaseID, lease)
	}
	select {
	case answer := <-events:
		t.Errorf("the other service's entry was gone: %v", answer)
	default:
	}
}
