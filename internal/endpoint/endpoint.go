// Package endpoint defines endpoints and their form in etcd: the layouts of
// keys and values, reading and writing them, and the rules for merging entries.
// It does no I/O.
package endpoint

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxValue bounds a value that is written or read, in bytes. A longer value is
// malformed. The bound is high for go-micro, whose values have the types of all
// methods.
const MaxValue = 512 << 10

// MaxMetadata bounds the number of pieces of metadata of an endpoint. An
// endpoint with more is not written, and an entry with more is malformed.
const MaxMetadata = 256

// MaxInstance bounds an instance id that is written or read from a key, in
// bytes. An entry with a longer id is malformed.
const MaxInstance = 2 << 10

// MethodsName is the piece of metadata in which servers publish the methods
// they serve, as "helloworld.Greeter/SayHello,SayBye;helloworld.Other/Do".
const MethodsName = "grpc_methods"

// MaxMethods bounds the value of MethodsName, in bytes. A longer value is
// neither written nor read: callers then send calls of any method to the
// endpoint.
const MaxMethods = 16 << 10

// LeavingName is the piece of metadata that marks an entry as leaving: its
// owner is withdrawing it. The value is "true". The owner sets it just before
// it deletes the entry, so that readers can distinguish a withdrawal from a
// loss. Layouts without metadata, see [Layout.Metadata], cannot carry it.
const LeavingName = "grpc_leaving"

// StartedName is the piece of metadata with the start time of a server, in
// seconds since 1970. Callers may let the server's share of the calls grow from
// that time. Layouts without metadata cannot carry it.
const StartedName = "grpc_started"

// Endpoint is one instance of a service.
type Endpoint struct {
	Instance, Addr, Version, Zone string
	Weight                        uint32
	Metadata                      map[string]string
}

// Field returns the field of the endpoint or the piece of its metadata that has
// the name, "" if there is neither. The matches and labels of service configs
// contain such names.
func (e *Endpoint) Field(name string) string {
	switch name {
	case nameVersion:
		return e.Version
	case nameZone:
		return e.Zone
	case "instance":
		return e.Instance
	case "addr":
		return e.Addr
	default:
		return e.Metadata[name]
	}
}

// Leaving reports whether the owner has marked the entry as being withdrawn.
func (e *Endpoint) Leaving() bool {
	return e.Metadata[LeavingName] == "true"
}

// Started returns the start time of the endpoint's server. ok is false if the
// entry has no start time.
func (e *Endpoint) Started() (at time.Time, ok bool) {
	// 33 bits last until 2242
	seconds, err := strconv.ParseUint(e.Metadata[StartedName], 10, 33)
	return time.Unix(int64(seconds), 0), err == nil
}

// WithMethods returns a copy of e with the methods of its server, in the form
// of [MethodsName].
func (e Endpoint) WithMethods(text string) Endpoint {
	return e.with(MethodsName, text)
}

// WithStarted returns a copy of e with the start time of its server.
func (e Endpoint) WithStarted(at time.Time) Endpoint {
	return e.with(StartedName, strconv.FormatInt(at.Unix(), 10))
}

// WithLeaving returns a copy of e with the mark of leaving.
func (e Endpoint) WithLeaving() Endpoint {
	return e.with(LeavingName, "true")
}

func (e Endpoint) with(name, value string) Endpoint {
	metadata := make(map[string]string, len(e.Metadata)+1)
	maps.Copy(metadata, e.Metadata)
	metadata[name] = value
	e.Metadata = metadata

	return e
}

// Equal reports whether e and o have the same fields. A nil Metadata equals an
// empty one.
func (e Endpoint) Equal(o Endpoint) bool {
	return e.Instance == o.Instance &&
		e.Addr == o.Addr &&
		e.Version == o.Version &&
		e.Zone == o.Zone &&
		e.Weight == o.Weight &&
		maps.Equal(e.Metadata, o.Metadata)
}

// RingName returns the unique name of an endpoint on a ring: its id or, if the
// previous endpoint in the order of ids has the same id, the id and the
// address. previous is the id of the previous endpoint, "" if there is none.
func RingName(id, addr, previous string) string {
	if id == previous {
		return id + " " + addr
	}

	return id
}

// CheckMetadataName returns an error for a reserved name of metadata: the name
// of one of Endpoint's own fields, or a name that only the runtime sets.
func CheckMetadataName(name string) error {
	switch name {
	case MethodsName, LeavingName, StartedName:
		return fmt.Errorf("metadata name %q is reserved: only the runtime sets it", name)
	}

	return checkFieldName(name)
}

// checkFieldName rejects the names of Endpoint's own fields: a reader would
// read such metadata back as the field.
func checkFieldName(name string) error {
	switch field := fieldName(name); field {
	case nameVersion, nameZone, nameWeight:
		return fmt.Errorf("metadata name %q is reserved: set the endpoint's %s instead",
			name, field)
	}

	return nil
}

// check rejects an endpoint that readers would not read back unchanged.
func (e Endpoint) check() error {
	if err := e.checkPieces(); err != nil {
		return err
	}

	for name, value := range e.Metadata {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return fmt.Errorf("metadata %.80q is not valid UTF-8", name)
		}

		// A weight that is not a number was read from etcd and may be written
		// back.
		_, number := parseWeight(value)
		if name != nameWeight || number || e.Weight != 0 {
			if err := checkFieldName(name); err != nil {
				return err
			}
		}
	}

	if !utf8.ValidString(e.Version) ||
		!utf8.ValidString(e.Zone) ||
		!utf8.ValidString(e.Instance) {
		return errors.New("instance, version and zone must be valid UTF-8")
	}

	return nil
}

func (e *Endpoint) checkPieces() error {
	if len(e.Metadata) > MaxMetadata {
		names := slices.Sorted(maps.Keys(e.Metadata))

		return fmt.Errorf(
			"more than %d pieces of metadata: leave out %.80q, for example",
			MaxMetadata, names[MaxMetadata])
	}

	return nil
}

// Entry is an endpoint found under one etcd key.
type Entry struct {
	Endpoint       *Endpoint
	Layout         Layout
	CreateRevision int64
}

// Merge returns the indexes of the entries that make up the endpoints of a
// service key: one entry per address, sorted by instance, then address. So an
// instance that is written in several layouts is one endpoint. Among the
// entries of an address, an entry with more than an address wins over a bare
// address. Next, a layout with metadata wins over a layout without. Last, the
// newer entry wins.
func Merge(entries []Entry) []int {
	best := make(map[string]int, len(entries))
	for i := range entries {
		addr := entries[i].Endpoint.Addr
		if j, ok := best[addr]; !ok || entries[i].beats(&entries[j]) {
			best[addr] = i
		}
	}

	set := make([]int, 0, len(best))
	for i := range entries {
		if best[entries[i].Endpoint.Addr] == i {
			set = append(set, i)
		}
	}

	slices.SortFunc(set, func(i, j int) int {
		a := entries[i].Endpoint
		b := entries[j].Endpoint

		return cmp.Or(cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.Addr, b.Addr))
	})

	return set
}

// beats reports whether e wins over o, which has the same address. If neither
// wins, both have equal endpoints, so the order does not matter.
func (e *Entry) beats(o *Entry) bool {
	if detailed := e.Endpoint.detailed(); detailed != o.Endpoint.detailed() {
		return detailed
	}

	if e.Layout.Metadata() != o.Layout.Metadata() {
		return e.Layout.Metadata()
	}

	if order := cmp.Compare(o.CreateRevision, e.CreateRevision); order != 0 {
		return order < 0
	}

	if order := e.Endpoint.compare(o.Endpoint); order != 0 {
		return order < 0
	}

	return e.Layout.String() < o.Layout.String()
}

// detailed reports whether e has more than an address.
func (e *Endpoint) detailed() bool {
	return e.Version != "" || e.Zone != "" || e.Weight != 0 || len(e.Metadata) > 0
}

// compare orders endpoints by their fields. The endpoint with more fields set
// is likely to come first.
func (e *Endpoint) compare(o *Endpoint) int {
	order := cmp.Or(
		cmp.Compare(len(o.Metadata), len(e.Metadata)),
		cmp.Compare(o.Weight, e.Weight),
		cmp.Compare(o.Version, e.Version),
		cmp.Compare(o.Zone, e.Zone),
		cmp.Compare(e.Instance, o.Instance),
	)
	if order != 0 || maps.Equal(e.Metadata, o.Metadata) {
		return order
	}

	// fmt prints the pieces in the order of their names
	return strings.Compare(fmt.Sprintf("%q", e.Metadata), fmt.Sprintf("%q", o.Metadata))
}

// Marks holds the marks of entries that are leaving. Not every layout can carry
// a mark. So a mark covers all entries that the owner had at the address when
// it set the mark: the entries with the owner's instance id, and the entries on
// the owner's lease whose layout has no instance id. A mark covers neither
// newer entries nor other instances, which may reuse or share the address.
type Marks map[owner]int64 // the revision of the latest mark

// owner identifies the owner of entries at an address by its instance or its
// lease.
type owner struct {
	addr, instance string
	lease          int64
}

// Mark is an entry that its owner marked at a revision.
type Mark struct {
	Addr, Instance  string
	Lease, Revision int64
}

// Add adds a mark.
func (m Marks) Add(mark Mark) {
	for _, o := range []owner{
		{addr: mark.Addr, instance: mark.Instance},
		{addr: mark.Addr, lease: mark.Lease},
	} {
		m[o] = max(m[o], mark.Revision)
	}
}

// Cover reports whether a mark covers an entry on a lease.
func (m Marks) Cover(e Entry, lease int64) bool {
	addr := e.Endpoint.Addr
	covers := func(o owner) bool {
		revision, marked := m[o]
		return marked && e.CreateRevision <= revision
	}

	anonymous := e.Layout.ends != atInstance && lease != 0

	return covers(owner{addr: addr, instance: e.Endpoint.Instance}) ||
		anonymous && covers(owner{addr: addr, lease: lease})
}
