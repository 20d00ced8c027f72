package ads

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/mapping"
)

// Kind is a type of xDS resource.
type Kind int

// The kinds, in the order in which they are sent: a resource is sent before
// resources that refer to it.
const (
	Clusters Kind = iota
	Loads
	Listeners
	Routes
	kinds
)

const typePrefix = "type.googleapis.com/envoy.config."

var typeURLs = [kinds]string{
	typePrefix + "cluster.v3.Cluster",
	typePrefix + "endpoint.v3.ClusterLoadAssignment",
	typePrefix + "listener.v3.Listener",
	typePrefix + "route.v3.RouteConfiguration",
}

// String returns the URL of the type.
func (k Kind) String() string {
	return typeURLs[k]
}

// KindOf returns the kind with the type URL url. ok is false for an unknown
// type.
func KindOf(url string) (k Kind, ok bool) {
	n := slices.Index(typeURLs[:], url)
	return Kind(n), n >= 0
}

// isWhole reports whether each answer of the kind contains all resources that
// the client asks for: if a resource is missing, the client concludes that the
// resource does not exist. Answers of other kinds contain only changed
// resources.
func (k Kind) isWhole() bool {
	return k == Listeners || k == Clusters
}

// maxNames limits how many resources of a kind a client may ask for.
const maxNames = 10_000

// maxAnswer limits the bytes of an answer that contains only changed resources.
// A further answer has the rest. A client receives at most 4 MiB in one
// message.
const maxAnswer = 2 << 20

// Found is the result of looking up a resource.
type Found struct {
	Resource *mapping.Resource // nil if it does not exist
	Pending  bool              // it is not known yet whether the resource exists

	// Provisional means that the resource may be out of date. Provisional loads
	// and routes are not sent to a client that reconnects: the client keeps
	// those that it has. Provisional listeners and clusters are sent, because
	// one answer contains the listeners or clusters of all hosts: the other
	// hosts would have to wait.
	Provisional bool

	// Substitute returns a replacement for a removed resource that the client
	// may have from an earlier stream. Substitute may be nil, and so may its
	// result.
	Substitute func() *mapping.Resource
}

// Lookup looks up a resource of a snapshot.
func Lookup(s *mapping.Snapshot, k Kind, name string) (f Found) {
	switch {
	case k <= Loads:
		of := [...]map[string]*mapping.Resource{s.Clusters, s.Loads}[k]
		f.Resource = of[name]
		f.Substitute = func() *mapping.Resource { return s.Substitute(name, of) }

	case name != s.Listener.Name: // the routes have the listener's name
	case k == Listeners:
		f.Resource = s.Listener
	case k == Routes:
		f.Resource = s.Route
	}

	return f
}

// Request is a client's request.
type Request struct {
	Kind  Kind
	Names []string

	// names the answer that the request acknowledges or refuses, "" in the
	// first request
	Nonce string

	Refused string // why the answer is refused, "" if it is acknowledged

	// The client has reconnected, and has resources of the kind from an earlier
	// stream.
	Returns bool
}

// Answer is a response (DiscoveryResponse) to a client.
type Answer struct {
	Kind           Kind
	Resources      []*mapping.Resource
	Version, Nonce string
}

// Core decides the answers for one client, by the state-of-the-world variant of
// the protocol:
// https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol. It makes
// one answer of a kind at a time: changes wait until the client has
// acknowledged or refused the last answer. The zero value is ready for use.
type Core struct {
	kinds [kinds]subscription
}

// subscription is the state of one kind.
type subscription struct {
	asked   bool
	returns bool     // the client reconnects: see [Request]
	names   []string // sorted

	// the last sent version of each resource that the client asks for, by name
	sent map[string]*mapping.Resource

	// the client has asked for further names since the last answer
	fresh bool

	nonce int // of the last answer

	// the client has not responded to the last answer
	pending bool

	version string // of the last answer
	acked   string // the last version that was acknowledged

	// why the client refused the last answer, "" if it did not
	refused string

	upcoming map[string]*upcoming // waiting changes of routes, by the name of the routes
}

// Request handles a request. A request with the nonce of an earlier answer is
// ignored as out of date: the client sends a new request when it receives the
// last answer.
func (c *Core) Request(r Request) error {
	s := &c.kinds[r.Kind]

	if len(r.Names) > maxNames {
		return fmt.Errorf("the client asks for %d resources of type %s, want at most %d",
			len(r.Names), r.Kind, maxNames)
	}

	names := slices.Compact(slices.Sorted(slices.Values(r.Names)))

	// The client has dropped the resources that it no longer names, and may ask
	// for them again later.
	maps.DeleteFunc(s.sent, func(name string, _ *mapping.Resource) bool {
		return lacks(names, name)
	})

	switch {
	case s.nonce == 0, r.Nonce == "":
		// This is the stream's first request. Old Envoys send it with the last
		// nonce of an earlier stream.
		*s = subscription{
			asked:    true,
			returns:  r.Returns,
			nonce:    s.nonce,
			sent:     make(map[string]*mapping.Resource),
			upcoming: make(map[string]*upcoming),
		}

	case r.Nonce != strconv.Itoa(s.nonce):
		return nil
	case s.pending:
		s.pending = false
		s.refused = r.Refused

		if r.Refused == "" {
			s.acked = s.version
		}
	}

	s.fresh = s.fresh || slices.ContainsFunc(names, func(name string) bool {
		return lacks(s.names, name)
	})
	s.names = names

	return nil
}

func lacks(sorted []string, name string) bool {
	_, has := slices.BinarySearch(sorted, name)
	return !has
}

// upcomingTime limits how long routes wait until a client knows their clusters.
// If nothing else happens, they wait up to twice as long.
const upcomingTime = 5 * time.Second

// Answers returns the answers to send now. find looks up a resource. If waits
// is true, call Answers again after upcomingTime.
func (c *Core) Answers(
	now time.Time,
	find func(k Kind, name string) Found,
) (all []Answer, waits bool) {
	for k := range kinds {
		s := &c.kinds[k]
		look := func(name string) Found {
			found := find(k, name)
			if found.Provisional && s.returns && !k.isWhole() {
				return Found{Pending: true}
			}

			if k == Routes {
				var wait bool
				found, wait = c.addUpcoming(now, name, found)
				waits = waits || wait
			}

			return found
		}

		if a := s.answer(k, look); a != nil {
			all = append(all, *a)
		}
	}

	return all, waits
}

// upcoming is a change of routes that waits until the client has the new
// clusters.
type upcoming struct {
	current *mapping.Resource // the client's routes, nil if unknown
	until   time.Time
}

// addUpcoming returns the routes to send now, and whether a change of them
// waits. It sends routes to new clusters only after the client has these
// clusters, because calls to unknown clusters would fail for a moment.
func (c *Core) addUpcoming(
	now time.Time,
	name string,
	found Found,
) (_ Found, waits bool) {
	s := &c.kinds[Routes]
	next := found.Resource
	last := s.sent[name]
	change := s.upcoming[name]
	delete(s.upcoming, name)

	if next == nil || last == nil && !s.returns || next.Equal(last) {
		return found, false
	}

	if change == nil {
		change = &upcoming{current: last, until: now.Add(upcomingTime)}
	}

	if !now.Before(change.until) {
		return found, false
	}

	before := c.beforeChange(change, last, next)
	if before == nil {
		return found, false
	}

	s.upcoming[name] = change

	return *before, true
}

// beforeChange returns what to send before the routes next, nil if next may be
// sent now. last has the routes that the client received last, nil for none.
func (c *Core) beforeChange(change *upcoming, last, next *mapping.Resource) *Found {
	clusters := &c.kinds[Clusters]

	// grpc-go 1.85 loses a cluster that returns to the routes while calls from
	// before its removal still use the cluster. So routes to such a cluster
	// wait until the client no longer asks for the cluster, when those calls
	// have ended.
	returns := func(cluster string) bool {
		return !slices.Contains(last.Clusters, cluster) &&
			slices.Contains(clusters.names, cluster)
	}
	if last != nil && slices.ContainsFunc(next.Clusters, returns) {
		return &Found{Resource: last}
	}

	// After a reconnect, the client's routes are unknown. Routes to the
	// clusters that the client asks for take their place.
	if change.current == nil {
		asked := slices.DeleteFunc(slices.Clone(clusters.names),
			func(cluster string) bool {
				return mapping.AuthorityOf(cluster) != mapping.AuthorityOf(next.Name)
			})
		if !clusters.asked || !c.hasAll(asked) {
			return &Found{Pending: true}
		}

		change.current = mapping.Detour(asked, next)
		if change.current == nil {
			return nil
		}
	}

	extended := mapping.AddUpcoming(change.current, next)
	if extended == nil || extended.Equal(last) && c.hasAll(next.Clusters) {
		return nil
	}

	return &Found{Resource: extended}
}

// hasAll reports whether the client has clusters and their endpoints, and has
// acknowledged them.
func (c *Core) hasAll(clusters []string) bool {
	for _, s := range c.kinds[:Listeners] { // the clusters and the loads
		if s.pending || slices.ContainsFunc(clusters, func(name string) bool {
			return s.sent[name] == nil
		}) {
			return false
		}
	}

	return true
}

// answer returns the next answer of a kind, nil if nothing has changed or the
// client has not responded to the last one.
func (s *subscription) answer(k Kind, find func(name string) Found) *Answer {
	if !s.asked || s.pending {
		return nil
	}

	changed := s.fresh && k.isWhole() && len(s.names) > 0
	waits := false // a resource is pending
	all := make([]*mapping.Resource, 0, len(s.names))
	var updates []*mapping.Resource

	bytes := 0 // the size of updates

	for _, name := range s.names {
		found := find(name)
		if found.Pending && k.isWhole() && s.version == "" {
			if s.returns {
				return nil // the client would delete the resource if the answer lacked it
			}

			waits = true

			continue
		}

		last := s.sent[name]
		next := found.Resource

		// A client asks for a removed cluster as long as it has calls to the
		// cluster. These calls must not fail.
		if next == nil {
			next = last
		}

		if next == nil && found.Substitute != nil {
			next = found.Substitute()
		}

		if next == nil {
			continue
		}

		all = append(all, next)

		if next.Equal(last) {
			continue
		}

		bytes += len(next.Body.GetValue())
		if bytes > maxAnswer && updates != nil && !k.isWhole() {
			break
		}

		changed = true
		updates = append(updates, next)
	}

	if !changed || waits && len(all) == 0 {
		return nil
	}

	if k.isWhole() {
		updates = all
	}

	return s.send(k, updates)
}

func (s *subscription) send(k Kind, resources []*mapping.Resource) *Answer {
	version := xxhash.New() // the same in every process
	for _, r := range resources {
		s.sent[r.Name] = r

		// writing to a hash returns no error
		_, _ = fmt.Fprintf(version, "%q%x", r.Name, r.Hash)
	}

	s.nonce++
	s.fresh = false
	s.pending = true
	s.version = strconv.FormatUint(version.Sum64(), 16)

	return &Answer{k, resources, s.version, strconv.Itoa(s.nonce)}
}

// Authorities returns the authorities of the resources that the client asks
// for, sorted.
func (c *Core) Authorities() []string {
	set := make(map[string]bool)
	for k := range c.kinds {
		for _, name := range c.kinds[k].names {
			set[mapping.AuthorityOf(name)] = true
		}
	}

	return slices.Sorted(maps.Keys(set))
}

// Type is the state of one type of resources at a client.
type Type struct {
	Name    string // such as "Cluster"
	Asked   int    // the number of resources that the client asks for
	Version string // of the last answer, "" for none
	Acked   string // the last version that the client acknowledged, "" for none
	Pending bool   // the client has neither acknowledged nor refused the last answer
	Refused string // why the client refused the last answer, "" if it did not
}

// Types returns the state of each type that the client asks for.
func (c *Core) Types() (all []Type) {
	for k := range c.kinds {
		if s := &c.kinds[k]; s.asked {
			name := strings.TrimPrefix(path.Ext(Kind(k).String()), ".")
			all = append(all,
				Type{name, len(s.names), s.version, s.acked, s.pending, s.refused})
		}
	}

	return all
}
