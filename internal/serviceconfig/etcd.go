package serviceconfig

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

const (
	childField = "childPolicy"
	splitField = "split"
	routeField = "route"
	drainField = "drain"
)

// Etcd is the config of the policy "etcd", which decides which instances a call
// may go to. Each field has a row in [Options].
type Etcd struct {
	// Split divides the calls among groups of endpoints. An endpoint belongs to
	// the first group that it matches. Endpoints in no group get calls only
	// while no group has a ready endpoint.
	Split []Split `json:"split,omitempty" of:"groups" max:"256"`

	// PreferZone sends the calls to the client's own zone while an endpoint
	// there is ready.
	PreferZone *bool `json:"preferZone,omitempty"`

	// ZoneMinPercent is the percentage of the zone's endpoints that must be
	// ready for all calls to stay in the zone. If it is 0, calls leave the zone
	// only when none of its endpoints is ready.
	ZoneMinPercent uint32 `json:"zoneMinPercent,omitempty" min:"1" max:"100"`

	// Subset is the number of endpoints that each client uses. 0 means all.
	Subset uint32 `json:"subset,omitempty" min:"1" max:"100000"`

	// SlowStart makes the share of a newly started instance grow.
	SlowStart *SlowStart `json:"slowStart,omitempty"`

	// Route assigns endpoints to lanes.
	Route []Route `json:"route,omitempty" of:"routes" max:"64"`

	// LaneHeader is the request metadata, in lower case, that names the lane of
	// a call whose context names no lane. If it is "", only the context names
	// lanes.
	LaneHeader string `json:"laneHeader,omitempty" header:"true"`

	// MaxConcurrentRequests bounds the concurrent calls of a client at one
	// endpoint. 0 means no bound.
	MaxConcurrentRequests uint32 `json:"maxConcurrentRequests,omitempty" min:"1"`

	// MinHealthyPercent is the percentage of the endpoints in etcd that a drain
	// must leave. Clients ignore a drain that leaves fewer.
	MinHealthyPercent uint32 `json:"minHealthyPercent,omitempty" min:"1" max:"100"`

	// Drain names instances, or addresses, that get no new calls.
	Drain []Drained `json:"drain,omitzero" of:"instances or addresses" min:"0"`

	// ChildPolicy lists policies. The first policy that is linked picks among
	// the remaining endpoints. The default is round_robin. Only an overlay,
	// which is a live config, has an empty list: see [Merge].
	ChildPolicy []Policy `json:"childPolicy,omitempty" of:"policies"`
}

// DefaultSlowStartPercent is the default of a slow start's MinPercent.
const DefaultSlowStartPercent = 10

// SlowStart makes the share of a newly started instance grow evenly.
type SlowStart struct {
	Window Duration `json:"window" required:"true" min:"1s" max:"3600s"`

	// MinPercent is the share at the start, in percent of the full share. 0
	// means DefaultSlowStartPercent.
	MinPercent uint32 `json:"minPercent,omitempty" min:"1" max:"100"`
}

// String returns the window.
func (s *SlowStart) String() string {
	return time.Duration(s.Window).String()
}

// ParseEtcd parses the config of the policy "etcd" that gRPC passes to the
// policy.
func ParseEtcd(text json.RawMessage) (*Etcd, error) {
	e := new(Etcd)
	if err := decode(string(text), e, place{parent: EtcdName}); err != nil {
		return nil, fmt.Errorf("policy %q: %w", EtcdName, err)
	}

	return e, nil
}

// complete sets the default of ChildPolicy.
func (e *Etcd) complete() {
	if e.ChildPolicy == nil {
		e.ChildPolicy = []Policy{{RoundRobinName, &RoundRobin{}}}
	}
}

// PrefersZone reports whether calls prefer the client's own zone.
func (e *Etcd) PrefersZone() bool {
	return e.PreferZone != nil && *e.PreferZone
}

func (e *Etcd) check(p place) {
	if !p.live {
		e.complete()
	}

	checkSplit(p.in(splitField), e.Split)
	checkRoutes(p.in(routeField), e.Route)

	if p.written {
		e.useless(func(o *Option, why string) { p.in(o.Name).fault("%s", why) })
	}
}

// Drained names an instance, or an address, that gets no new calls. Its JSON is
// the name alone, or an object.
type Drained struct {
	Instance string `json:"instance" required:"true"`

	// when the drain ends by itself, as in RFC 3339; "" for never
	Until string `json:"until,omitempty"`

	By string `json:"by,omitempty"` // who wrote it, for operators
	At string `json:"at,omitempty"` // when it was written, for operators
}

// drainFields has no methods, so that its JSON is that of the struct.
type drainFields Drained

// MarshalJSON implements [json.Marshaler].
func (d Drained) MarshalJSON() ([]byte, error) {
	if d == (Drained{Instance: d.Instance}) {
		return marshal(d.Instance)
	}

	return marshal(drainFields(d))
}

func (d *Drained) decode(p place, v any) {
	name, ok := v.(string)
	d.Instance = name

	if !ok {
		p.decode(v, reflect.ValueOf((*drainFields)(d)).Elem(), "")
	}

	switch {
	case d.Instance == "":
		p.fault("want an instance or an address, not an empty name")
	case d.Until != "" && d.End().IsZero():
		p.in("until").wants("a time such as 2026-12-01T09:00:00Z", d.Until)
	}
}

// End returns when the drain ends by itself, zero for never.
func (d Drained) End() time.Time {
	// zero after an error: Until is "", or decode has reported it
	end, _ := time.Parse(time.RFC3339, d.Until)
	return end
}

// EndDrains drops the drains that have ended by now, and returns when the next
// drain ends, zero for never.
func (e *Etcd) EndDrains(now time.Time) (next time.Time) {
	if e == nil {
		return next
	}

	e.Drain = slices.DeleteFunc(slices.Clone(e.Drain), func(d Drained) bool {
		end := d.End()
		if end.After(now) && (next.IsZero() || end.Before(next)) {
			next = end
		}

		return !end.IsZero() && !end.After(now)
	})

	return next
}

// These bound a split, whose matches are compared with each endpoint at each
// update.
const (
	maxMatch = 8 // the greatest number of names in one match

	// MaxMatchNames bounds the different names in all matches.
	MaxMatchNames = 16
)

// Split is a group of endpoints and its share of the calls, relative to the
// other groups.
type Split struct {
	// Match maps "version", "zone", "instance", "addr" or the name of a piece
	// of metadata to the required value. "" matches an endpoint without the
	// name.
	Match  map[string]string `json:"match" required:"true"`
	Weight uint32            `json:"weight"`
}

// Key returns a text that identifies the group's match. It does not depend on
// the weight.
func (s Split) Key() string {
	var key strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.Match)) {
		key.WriteString(strconv.Quote(name) + "=" + strconv.Quote(s.Match[name]) + ";")
	}

	return key.String()
}

// Name returns the group's match for messages, such as version="v1",zone="a".
func (s Split) Name() string {
	text := make([]byte, 0, 64)
	names := slices.AppendSeq(make([]string, 0, len(s.Match)), maps.Keys(s.Match))
	slices.Sort(names)

	for n, name := range names {
		if n > 0 {
			text = append(text, ',')
		}

		text = strconv.AppendQuote(append(text, printable.Text(name)+"="...),
			s.Match[name])
	}

	return string(text)
}

// checkSplit rejects groups that repeat an earlier group, too many names in all
// matches, and weights that are all zero.
func checkSplit(p place, splits []Split) {
	total := uint64(0)
	seen := map[string]bool{}
	names := matchNames{}
	for i, s := range splits {
		if key := s.Key(); seen[key] {
			p.in(index(i), "match").fault(
				"an earlier group has the same, and so all endpoints of this one")
		} else {
			seen[key] = true
		}

		total += uint64(s.Weight)
		names.add(p.in(index(i)), s.Match, "groups")
	}

	if len(splits) > 0 && total == 0 {
		p.fault("all weights are zero")
	}
}

// matchNames holds the names in all matches of a list.
type matchNames map[string]bool

// add adds the names of one match, and rejects too many. elements is the noun
// for the elements of the list.
func (m matchNames) add(p place, match map[string]string, elements string) {
	before := len(m)

	for name := range match {
		m[name] = true
	}

	if len(m) > MaxMatchNames && before <= MaxMatchNames {
		p.in("match").fault(
			"has one name too many: want at most %d different names in all %s",
			MaxMatchNames, elements)
	}
}

// LaneHeader is the request metadata that carries the lane of a call to the
// server.
const LaneHeader = "etcd-lane"

// MaxLane is the greatest length of a lane's name, in bytes.
const MaxLane = 128

// Route assigns instances to a lane. Either Lane and Match are set, or Label.
type Route struct {
	Lane  string            `json:"lane,omitempty"`
	Match map[string]string `json:"match,omitempty"` // as in Split

	// Label names the field or metadata, as in a match, that holds the
	// instance's lane.
	Label string `json:"label,omitempty"`

	// Strict makes the calls of a lane fail while none of its instances is
	// ready. Otherwise these calls go to the instances without a lane.
	Strict bool `json:"strict,omitempty"`
}

// ValidLane reports whether name is a valid lane, which can be sent in a
// header.
func ValidLane(name string) bool {
	const legal = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/"
	return name != "" && len(name) <= MaxLane && strings.Trim(name, legal) == ""
}

// WantLane describes the names that ValidLane accepts.
const WantLane = `at most 128 letters, digits and "-_.:/"`

func (r *Route) check(p place) {
	switch {
	case r.Label != "" && (r.Lane != "" || r.Match != nil):
		p.in("label").fault("is set together with lane or match: an instance's lane is either named here or by the instance")
	case r.Label != "":
	case r.Lane == "":
		p.in("lane").missing("name the lane and what its instances match, or the label that holds each instance's lane")
	case !ValidLane(r.Lane):
		p.in("lane").fault("%.60q is not a lane: want %s", r.Lane, WantLane)
	case len(r.Match) == 0:
		p.in("match").missing("name what the instances of the lane have in common")
	}
}

// checkRoutes rejects routes that repeat an earlier route, and too many names
// in all matches.
func checkRoutes(p place, routes []Route) {
	seen := map[[2]string]bool{}
	names := matchNames{}
	for i, r := range routes {
		field := "lane"
		id := [2]string{r.Lane}

		if r.Label != "" {
			field = "label"
			id = [2]string{"", r.Label}
		}

		if seen[id] {
			p.in(index(i), field).fault("is that of an earlier route")
		}

		seen[id] = true
		names.add(p.in(index(i)), r.Match, "routes")
	}
}
