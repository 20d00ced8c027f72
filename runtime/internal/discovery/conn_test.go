package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig/grpccheck"
	_ "github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/balancer" // the policy "etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// side is gRPC's side of a connection. It parses configs as gRPC does, and
// records the states that it gets.
type side struct {
	resolver.ClientConn
	states []resolver.State
	errs   []error
}

func (s *side) UpdateState(state resolver.State) error {
	s.states = append(s.states, state)
	return nil
}
func (s *side) ReportError(err error) {
	s.errs = append(s.errs, err)
}

func (s *side) last() resolver.State {
	return s.states[len(s.states)-1]
}

// Scheme, Build, ResolveNow and Close make a side the resolver of its
// connection.
func (s *side) Scheme() string {
	return "side"
}
func (s *side) Build(
	_ resolver.Target,
	cc resolver.ClientConn,
	_ resolver.BuildOptions,
) (resolver.Resolver, error) {
	s.ClientConn = cc
	return s, nil
}
func (s *side) ResolveNow(resolver.ResolveNowOptions) {}
func (s *side) Close()                                {}

func newSide(t testing.TB, opts ...grpc.DialOption) *side {
	s := new(side)
	cc, err := grpc.NewClient("side:///x", append(opts, grpc.WithResolvers(s),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())...)
	must.Succeed(t, err)
	t.Cleanup(func() { _ = cc.Close() })
	cc.Connect()

	return s
}

func silentKeys(t testing.TB) *Keys {
	ks := NewKeys(Config{
		Conversation: listwatch.NewConversation(silent{}),
		Logger:       slog.New(slog.DiscardHandler),
	})

	t.Cleanup(ks.Close)

	return ks
}

// defaultOf returns the default service config that NewClient passes to gRPC.
func defaultOf(t testing.TB, text string) serviceconfig.Wrapped {
	w, err := serviceconfig.Wrap(grpccheck.Registered, text)
	must.Succeed(t, err)

	return w
}

// A connection gets its service config even if etcd never answers, so that
// calls end by the timeouts in the config. It gets the config only after
// silentGrace, so that an etcd which answers comes first with its live config.
// Once the registry and the connection are closed, no timer is left (K10).
func TestAStateBeforeTheFirstList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cc := &slowConn{given: make(chan string, 4)}
		ks := silentKeys(t)
		k := ks.Key("acme/user", endpoint.Reader{})
		r := Resolve(k, cc,
			Options{Client: new(model.Client), Given: new(Given), Default: defaultOf(t, "")})
		time.Sleep(silentGrace - 1)
		synctest.Wait()
		early := len(cc.given)
		time.Sleep(time.Nanosecond)
		synctest.Wait()

		if early != 0 || len(cc.given) != 1 {
			t.Errorf("gRPC was given %d states before the time for etcd had passed, and %d after, want 0 and 1",
				early, len(cc.given))
		}

		ks.Close()
		r.Close()

		if k.timer != nil {
			t.Error("a closed key has a timer, which keeps it in memory")
		}
	})
}

// slowConn handles each state slowly.
type slowConn struct {
	resolver.ClientConn
	takes time.Duration
	given chan string // the values of the routes
}

func (c *slowConn) UpdateState(s resolver.State) error {
	c.given <- model.StateOf(s).Route.Value
	time.Sleep(c.takes)

	return nil
}

// valued is a router whose route has a value, but no instance.
type valued struct {
	Router
	value string
}

func (v *valued) Route() model.Route {
	return model.Route{Value: v.value}
}

// TestConn_DeliversTheLastChange makes changes while a connection handles the
// first one. The connection gets only the last change, after a pause (D15).
func TestConn_DeliversTheLastChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &Key{keys: &Keys{}}
		cc := &slowConn{takes: time.Second, given: make(chan string, 4)}
		router := new(valued)
		k.state.Store(&State{KeyState: model.KeyState{Known: true}})

		c := &conn{key: k, cc: cc, opts: Options{
			Client:  new(model.Client),
			Given:   new(Given),
			Default: defaultOf(t, ""),
			Router:  router,
		}}
		for range 4 {
			router.value += "x"
			c.notify()
			synctest.Wait()
		}

		time.Sleep(cc.takes + listwatch.Pause(cc.takes, 1) - 1)
		synctest.Wait()

		if len(cc.given) != 1 {
			t.Error("before the pause had ended, the connection was given another state")
		}

		time.Sleep(2 * cc.takes)
		synctest.Wait()

		if len(cc.given) != 2 || <-cc.given != "x" || <-cc.given != "xxxx" {
			t.Error("the connection was given other states than the first and the last one")
		}
	})
}

// observer is gRPC's side of a bare resolver.
type observer struct {
	resolver.ClientConn
	given chan resolver.State
}

func (o observer) UpdateState(s resolver.State) error {
	o.given <- s
	return nil
}

// TestConn_SharesLists changes the state of a key with two bare resolvers. A
// resolver that asks during the pause gets the last list, and after the pause
// both get one list of the last state (D15).
func TestConn_SharesLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &Key{keys: &Keys{}}
		o := observer{given: make(chan resolver.State)}
		began := time.Now()

		for i, letters := range []string{"ab", "abc"} {
			k.state.Store(&State{
				KeyState: model.KeyState{Sequence: uint64(i), Known: true, Endpoints: set(letters)},
			})
			(&conn{key: k, cc: o, opts: Options{Given: new(Given)}}).notify()
			synctest.Wait()
		}

		for i, want := range []int{2, 3} {
			a := <-o.given
			b := <-o.given
			if len(a.Endpoints) != want ||
				&a.Endpoints[0] != &b.Endpoints[0] ||
				&a.Addresses[0] != &b.Addresses[0] {
				t.Errorf("gRPC got %v and %v, want the same lists of %d endpoints", a, b, want)
			}

			if after := time.Since(began); after != time.Duration(i)*2*listPause {
				t.Errorf("gRPC got the lists of %d endpoints after %v, want them after the pause",
					want, after)
			}
		}
	})
}

// TestConn_EmptiesABareList gives a bare resolver endpoints that etcd, when it
// answers, no longer has.
func TestConn_EmptiesABareList(t *testing.T) {
	s := newSide(t)
	c := &conn{
		key:  silentKeys(t).Key("acme/user", endpoint.Reader{}),
		cc:   s,
		opts: Options{Given: new(Given)},
		list: &grpcList{State: &State{}},
	}
	c.send(&State{KeyState: model.KeyState{Endpoints: set("a")}, Provisional: true})
	c.send(&State{KeyState: model.KeyState{Known: true}})

	if got := s.last().Endpoints; len(got) != 0 {
		t.Errorf("gRPC has the endpoints %v, want none", got)
	}
}

// TestConn_ParsesALiveConfigOnce sends a live config several times: it is
// parsed once, and stays in force after an invalid one.
func TestConn_ParsesALiveConfigOnce(t *testing.T) {
	s := newSide(t)
	c := &conn{
		key:  silentKeys(t).Key("acme/user", endpoint.Reader{}),
		cc:   s,
		opts: Options{Client: new(model.Client), Given: new(Given), Default: defaultOf(t, "")},
	}
	for _, live := range []string{`{"methodConfig":[{"name":[{}],"timeout":"1s"}]}`, `{`} {
		for range 2 {
			c.send(&State{LiveKnown: true, Live: live})
		}
	}

	// the live config is not known
	c.send(&State{KeyState: model.KeyState{Known: true}})

	config, ok := s.last().ServiceConfig.Config.(*grpc.ServiceConfig) //nolint:staticcheck // only this field has it
	if !ok || config.Methods[""].Timeout == nil {
		t.Fatalf("gRPC was given the config %+v, want the timeout of 1 s", s.last().ServiceConfig)
	}

	for _, state := range s.states {
		if state.ServiceConfig != s.last().ServiceConfig {
			t.Error("states have different parsed configs, want one that is parsed once and kept")
		}
	}
}

// TestNoStatusOfEtcdEndsACall checks that errors do not wrap etcd's status: a
// gateway before etcd may return any code.
func TestNoStatusOfEtcdEndsACall(t *testing.T) {
	away := fmt.Errorf("list: %w", status.Error(codes.PermissionDenied, "RBAC: access denied"))
	for _, s := range []State{{KeyState: model.KeyState{Known: true}, Err: away},
		{Err: fmt.Errorf("%w: %w", rpctypes.ErrPermissionDenied, away)}} {
		err := s.emptyErr("acme/user")
		_, is := status.FromError(err)
		if is || !strings.Contains(err.Error(), away.Error()) {
			t.Errorf("known %t: emptyErr = %v, want the text %q without a gRPC status", s.Known,
				err, away)
		}
	}
}

// TestEndpointsForAPolicyAbove checks which policies get the endpoints in
// gRPC's own field (P16).
func TestEndpointsForAPolicyAbove(t *testing.T) {
	key := silentKeys(t).Key("acme/user", endpoint.Reader{})
	known := &State{KeyState: model.KeyState{Known: true, Endpoints: set("a")}, LiveKnown: true}
	for top, want := range map[string]string{
		serviceconfig.EtcdName:             "pending:0 empty:0 known:0 lost:0",
		serviceconfig.OutlierDetectionName: "pending:0,given empty:0,given known:1,given lost:2,given",
		"":                                 "error known:1 lost:2", // a bare resolver
	} {
		s := newSide(t)
		c := &conn{key: key, cc: s, opts: Options{
			Client:  new(model.Client),
			Given:   new(Given),
			Default: serviceconfig.Wrapped{JSON: "{}", Top: top},
		}}
		if top == "" {
			c.opts.Client = nil
			c.list = &grpcList{State: &State{}}
		}

		c.send(&State{})
		c.send(&State{Err: rpctypes.ErrPermissionDenied})
		c.send(known)
		c.away = &State{KeyState: model.KeyState{Known: true, Endpoints: set("w")}}

		c.send(&State{KeyState: model.KeyState{
			Known:     true,
			Endpoints: set("a"),
			Held:      map[string]struct{}{"a:1": {}},
		}, LiveKnown: true})

		var got []string

		names := []string{"pending", "empty", "known", "lost"}
		for range s.errs {
			got = append(got, "error")
			names = names[2:]
		}

		for i, state := range s.states {
			word := fmt.Sprintf("%s:%d", names[i], len(state.Endpoints))
			if ours := model.StateOf(state); ours != nil && ours.InState {
				word += ",given"
			}

			got = append(got, word)
		}

		if text := strings.Join(got, " "); text != want {
			t.Errorf("under the policy %s gRPC got %s, want %s", top, text, want)
		}

		a := s.last().Addresses
		if strings.HasPrefix(want, "error") && (len(a) != 2 || a[0].Addr != "a:1") {
			t.Errorf("under %s gRPC got the addresses %v, want a:1 and w:1", top, a)
		}
	}

	// A connection that ignores service configs has the default one in force,
	// whatever the live config.
	s := newSide(t)
	c := &conn{key: key, cc: s, opts: Options{
		Client:   new(model.Client),
		Given:    new(Given),
		Disabled: true,
		Default:  defaultOf(t, ""),
	}}

	c.send(&State{
		KeyState:  model.KeyState{Known: true},
		LiveKnown: true,
		Live:      `{"healthCheckConfig":{"serviceName":"x"}}`,
	})

	state := model.StateOf(s.last())
	if state.Health != "" || s.last().ServiceConfig != nil {
		t.Errorf("a connection that ignores live configs got the state %+v, want no health check and no config", state)
	}
}

type silent struct{}

func (silent) Get(
	ctx context.Context,
	_ string,
	_ ...clientv3.OpOption,
) (*clientv3.GetResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
func (silent) Watch(context.Context, string, ...clientv3.OpOption) clientv3.WatchChan {
	return nil
}
func (silent) Txn(ctx context.Context) clientv3.Txn {
	return silentTxn{ctx: ctx}
}

type silentTxn struct {
	clientv3.Txn
	ctx context.Context
}

func (t silentTxn) Then(...clientv3.Op) clientv3.Txn {
	return t
}
func (t silentTxn) Commit() (*clientv3.TxnResponse, error) {
	<-t.ctx.Done()
	return nil, t.ctx.Err()
}

// TestKeys_KeepARequestedKey requests another key between Keys.Key and Key.Read
// of one reader, in a process with many keys: two readers of one key must share
// its state (K1).
func TestKeys_KeepARequestedKey(t *testing.T) {
	ks := silentKeys(t)
	for i := range maxKeys {
		defer ks.Key(fmt.Sprint("many/", i), endpoint.Reader{}).Read(func() {})()
	}

	one := ks.Key("acme/user", endpoint.Reader{})

	defer ks.Key("acme/other", endpoint.Reader{}).Read(func() {})() // by another reader, just now
	defer one.Read(func() {})()

	if two := ks.Key("acme/user", endpoint.Reader{}); one != two {
		t.Error("two readers of one key have two states, want one that they share")
	}
}

// Entries are decoded by the service key without the namespace, as they are
// written: GoFrame's keys may be in a namespace, too.
func TestEntriesInANamespace(t *testing.T) {
	const service, instance = "/service/default/default/user/latest", "127.0.0.1:1"
	for _, namespace := range []string{"", "prod/", "/prod"} {
		ks := NewKeys(Config{Namespace: namespace, Allowed: func(string) error {
			return nil
		}, Logger: slog.New(slog.DiscardHandler)})
		entry := &mvccpb.KeyValue{
			Key:   []byte(namespace + service + "/" + instance),
			Value: []byte(`{"metrics_addr":"10.0.0.7:9100"}`),
		}

		b, _, err := ks.decode(service, endpoint.Reader{}, entry)
		if err != nil || b.Endpoint.Addr != instance {
			t.Errorf("decode in the namespace %q = %+v, %v, want the address %s", namespace, b,
				err, instance)
		}
	}
}
