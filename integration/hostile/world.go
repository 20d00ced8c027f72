package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// instances is how many servers each service has.
const instances = 25

// honest are the keys of the services that are to go on undisturbed, hostile the key of the other one. That has
// honest servers, too.
var honest = []string{
	"acme/audit", "acme/billing", "acme/carts", "acme/catalog", "acme/mail", "acme/orders", "acme/search",
	"acme/stock", "acme/users",
}

const (
	hostile       = "acme/hostile"
	hostileKeys   = hostile + "/"
	hostileConfig = "_grpc_config/" + hostile

	// mark is what the instance ids of the hostile writer begin with, and the names of its candidates.
	mark = "x"
)

// hostileCandidates are the keys of the candidates for the leadership of the hostile service. Its honest servers stand, too.
var hostileCandidates = servicekey.LeaderPrefix(hostile)

// The users of etcd. The writer may write the keys and the candidates of the hostile service and nothing else, the operator its live
// config and nothing else.
const (
	userServers  = "servers"
	userCaller   = "caller"
	userWriter   = "writer"
	userOperator = "operator"
	password     = "secret"
)

// world is what the caller lives in: etcd, the servers of ten services, and traps.
type world struct {
	dir      string
	etcd     *etcdtest.Cluster
	client   *clientv3.Client // the servers'
	registry *runtime.Registry
	traps    *traps
	addrs    map[string][]string // of the servers, by key

	stop    context.CancelFunc
	serving sync.WaitGroup

	own     int // the MiB that callers keep for themselves
	callers int // how many snapshot directories there are
}

func newWorld(dir string) (_ *world, err error) {
	w := &world{dir: dir, addrs: make(map[string][]string), stop: func() {}}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	servers := etcdtest.User{Name: userServers, Password: password}
	caller := etcdtest.User{Name: userCaller, Password: password}
	for _, key := range append([]string{hostile}, honest...) {
		servers.Permissions = append(servers.Permissions, etcdtest.ReadWrite(key+"/"))
		caller.Permissions = append(caller.Permissions, etcdtest.ReadOnly(key+"/"), etcdtest.ReadOnly("_grpc_config/"+key))
	}
	servers.Permissions = append(servers.Permissions, etcdtest.ReadWrite(hostileCandidates))
	caller.Permissions = append(caller.Permissions, etcdtest.ReadOnly(hostileCandidates))
	w.etcd, err = etcdtest.New(filepath.Join(dir, "etcd"), etcdtest.WithAuth(password, servers, caller,
		etcdtest.User{Name: userWriter, Password: password, Permissions: []etcdtest.Permission{etcdtest.ReadWrite(hostileKeys), etcdtest.ReadWrite(hostileCandidates)}},
		etcdtest.User{Name: userOperator, Password: password, Permissions: []etcdtest.Permission{etcdtest.ReadWrite(hostileConfig)}}))
	if err != nil {
		return w, err
	}
	if w.traps, err = newTraps(); err != nil {
		return w, err
	}
	if w.client, err = w.clientOf(userServers); err != nil {
		return w, err
	}
	w.registry = w.newRegistry()
	return w, w.serve()
}

// clientOf returns a client that is the caller's to close.
func (w *world) clientOf(user string) (*clientv3.Client, error) {
	cfg := w.etcd.Config()
	cfg.Username, cfg.Password = user, password
	cfg.DialTimeout = 10 * time.Second
	return clientv3.New(cfg)
}

func (w *world) newRegistry() *runtime.Registry {
	return runtime.NewRegistry(w.client, runtime.WithLogger(slog.New(slog.DiscardHandler)))
}

// greeter answers with nothing.
type greeter struct {
	basic.UnimplementedGreeterServer
}

func (greeter) SayHello(context.Context, *basic.HelloRequest) (*basic.HelloReply, error) {
	return &basic.HelloReply{}, nil
}

// serve starts the servers of all services, and returns once they are in etcd.
func (w *world) serve() error {
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	for _, key := range append([]string{hostile}, honest...) {
		for i := range instances {
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			w.addrs[key] = append(w.addrs[key], lis.Addr().String())
			desc := basic.Greeter_EtcdServiceDesc
			desc.Key = key
			if key == hostile {
				desc.Leader = elected
			}
			server := w.registry.NewServer(grpc.NewServer(), runtime.WithDrainDelay(0))
			server.RegisterService(&basic.Greeter_ServiceDesc, greeter{})
			server.Publish(&desc, runtime.WithVersion("v1"), runtime.WithZoneTag(string("ab"[i%2])), runtime.WithWeight(uint32(1+i%3)))
			w.serving.Go(func() { _ = server.Serve(ctx, lis) }) // the keys in etcd say whether it serves
		}
	}
	return w.registered()
}

// registered returns once the servers of all services are in etcd.
func (w *world) registered() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for range ticks(ctx, 20*time.Millisecond) {
		got, err := w.etcd.Admin().Get(ctx, "acme/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err == nil && got.Count == int64(len(honest)+1)*instances {
			return nil
		}
	}
	return errors.New("the honest servers are not in etcd within 30s")
}

// startCaller starts a caller with a snapshot directory of its own, or with that of the last one.
func (w *world) startCaller(way way, etcd string, again bool) (*process, error) {
	if !again {
		w.callers++
	}
	o := orders{
		Own: w.own, Etcd: etcd, Services: honest, Hostile: hostile, Policy: way.policy, Elected: way.elected,
		Snapshots: filepath.Join(w.dir, fmt.Sprint("snapshots", w.callers)),
	}
	if o.Policy == "" {
		o.Policy = honestPolicies[0]
	}
	if way.slowNames {
		o.DNS = w.traps.dns.LocalAddr().String()
	}
	return startProcess(o)
}

// clean takes out of etcd what the hostile writer has left there.
func (w *world) clean() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	admin := w.etcd.Admin()
	_, err := admin.Delete(ctx, hostileKeys+mark, clientv3.WithRange(clientv3.GetPrefixRangeEnd(hostileKeys+mark)))
	_, err2 := admin.Delete(ctx, hostileCandidates+mark, clientv3.WithRange(clientv3.GetPrefixRangeEnd(hostileCandidates+mark)))
	_, err3 := admin.Delete(ctx, hostileConfig)
	_, err4 := w.etcd.Compact(ctx)
	w.etcd.Calls().Reset()
	return errors.Join(err, err2, err3, err4, w.registered())
}

// visit registers one more instance of an honest service, and takes it out again. It returns how long after it was in
// etcd the caller reached it, or how long after it was out of it the caller knew, at the worst.
func (w *world) visit(ctx context.Context, n int, p *process) (time.Duration, error) {
	v := Visit{honest[n%len(honest)], w.traps.addr(w.traps.serving, visitors+n)}
	registry := w.newRegistry() // a process that starts
	defer func() {
		// A context of its own, for the entry is to be out in any case.
		closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = registry.Close(closing) // its entry expires with its lease
	}()
	entry, err := registry.Register(ctx, v.Key, runtime.Endpoint{Addr: v.Addr})
	if err != nil {
		return 0, fmt.Errorf("register an instance of %s: %w", v.Key, err)
	}
	since := time.Now()
	if err := p.call(visitTimeout, "Reach", v, new(bool)); err != nil {
		return 0, fmt.Errorf("the caller has not reached a new instance of %s: %w", v.Key, err)
	}
	worst := time.Since(since)
	if err := entry.Close(ctx); err != nil {
		return 0, fmt.Errorf("withdraw an instance of %s: %w", v.Key, err)
	}
	since = time.Now()
	if err := p.call(visitTimeout, "Lose", v, new(bool)); err != nil {
		return 0, fmt.Errorf("the caller still has an instance of %s that was withdrawn: %w", v.Key, err)
	}
	return max(worst, time.Since(since)), nil
}

func (w *world) close() {
	w.stop()
	w.serving.Wait()
	if w.registry != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		w.registry.Close(ctx)
	}
	if w.client != nil {
		w.client.Close()
	}
	if w.traps != nil {
		w.traps.close()
	}
	if w.etcd != nil {
		w.etcd.Close()
	}
	os.RemoveAll(w.dir)
}
