package discovery

import (
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig/grpccheck"
)

// maxHanded bounds the configs that are kept for connections still to come.
const maxHanded = 100

// handed is a service config as gRPC is given it: the live one over a default one.
type handed struct {
	serviceconfig.Wrapped
	live   string
	parsed *grpcserviceconfig.ParseResult
}

// configs makes the configs that a key's connections hand to gRPC, each once: under a large one, making it costs
// milliseconds.
type configs struct {
	mu   sync.Mutex
	live string
	made map[sharers]*handed // of live
}

// sharers are connections that share a config. What gRPC makes of its text depends on nothing else.
type sharers struct {
	below    string // their default config; "": they are of a bare resolver
	attempts int    // how many attempts a call of theirs may have
}

// handed returns the config for a connection, as it is under a live one. "" is a live one that was deleted.
func (k *Key) handed(cc resolver.ClientConn, below, live string) *handed {
	h, made := k.configs.get(cc, below, live)
	if err := h.parsed.Err; made && err != nil { // the layers were checked one by one, the live one when it came in
		k.keys.cfg.Logger.Error("the service configs together are bad; the last good one stays in force", "key", k.Full(), "error", err)
	}
	return h
}

// get returns the config for a connection, and whether it was made just now.
func (cs *configs) get(cc resolver.ClientConn, below, live string) (h *handed, made bool) {
	who := sharers{below, attempts(cc)}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.live != live || len(cs.made) >= maxHanded {
		cs.live, cs.made = live, nil
	}
	if h = cs.made[who]; h != nil {
		return h, false
	}
	h = newHanded(cc, below, live)
	if cs.made == nil {
		cs.made = make(map[sharers]*handed)
	}
	cs.made[who] = h
	return h, true
}

func newHanded(cc resolver.ClientConn, below, live string) *handed {
	h := &handed{Wrapped: serviceconfig.Wrapped{JSON: live}, live: live}
	var err error
	switch {
	case below != "":
		var merged string
		if merged, err = serviceconfig.Merge(below, live); err == nil {
			h.Wrapped, err = serviceconfig.Wrap(merged, grpccheck.Registered)
		}
	case live == "":
		h.JSON = "{}" // of its default, gRPC tells nothing
	}
	if err == nil {
		h.parsed, err = parse(cc, h.JSON)
	}
	if err != nil {
		h.parsed = &grpcserviceconfig.ParseResult{Err: err}
	}
	return h
}

// parse has gRPC read a config. If a policy panics on it, the config counts as bad.
func parse(cc resolver.ClientConn, json string) (result *grpcserviceconfig.ParseResult, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a load balancing policy panicked: %s", printable.Short(fmt.Sprint(p), 200))
		}
	}()
	return cc.ParseServiceConfig(json), nil
}

// attempts returns how many attempts grpc.WithMaxCallAttempts allows the calls of a connection. gRPC says that by what
// it makes of a config that allows any number.
func attempts(cc resolver.ClientConn) int {
	config, _ := cc.ParseServiceConfig(`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":2147483647,` +
		`"initialBackoff":"1s","maxBackoff":"1s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}`).Config.(*grpc.ServiceConfig) //nolint:staticcheck // there is no other way to ask
	if config == nil || config.Methods[""].RetryPolicy == nil {
		return 0
	}
	return config.Methods[""].RetryPolicy.MaxAttempts
}
