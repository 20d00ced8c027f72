// Package endpoint holds what an endpoint is and how it is kept in etcd: the layouts of keys and
// values, reading them, writing them, and what of them is believed. It does no I/O.
package endpoint

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// MaxValue bounds a value in bytes, in both directions. What is longer is malformed.
const MaxValue = 64 << 10

// MaxMetadata bounds the pieces of an endpoint's metadata, in both directions. What has more is malformed.
const MaxMetadata = 256

// MaxInstance bounds an instance id, and what of a key is one, in bytes, in both directions. What is longer is malformed.
const MaxInstance = 2 << 10

// MethodsName is the piece of metadata in which servers publish the methods they serve, as
// "helloworld.Greeter/SayHello,SayBye;helloworld.Other/Do".
const MethodsName = "grpc_methods"

// MaxMethods bounds the value of MethodsName, in bytes. A longer one is neither written nor read:
// callers send any method to an endpoint that does not say what it serves.
const MaxMethods = 16 << 10

// LeavingName is the piece of metadata that marks an entry whose owner is withdrawing it in order: its
// value is then "true". It is put just before the entry is deleted, so that readers can tell a leave
// from a loss. Layouts without metadata, see [Layout.Metadata], cannot carry it.
const LeavingName = "grpc_leaving"

// StartedName is the piece of metadata in which a server says when it started, in seconds since 1970. Callers may
// let its share of the calls grow from then on. Layouts without metadata cannot carry it.
const StartedName = "grpc_started"

// Endpoint is one instance of a service.
type Endpoint struct {
	Instance, Addr, Version, Zone string
	Weight                        uint32
	Metadata                      map[string]string
}

// Field returns the value that matches and labels of a service config know by name: a field of the endpoint, or a
// piece of its metadata, "" if there is none.
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

// Leaving reports whether the entry is marked as being withdrawn by its owner.
func (e *Endpoint) Leaving() bool { return e.Metadata[LeavingName] == "true" }

// Started returns when the endpoint's server started. ok is false if its entry does not say.
func (e *Endpoint) Started() (at time.Time, ok bool) {
	seconds, err := strconv.ParseUint(e.Metadata[StartedName], 10, 33) // 33 bits last until 2242
	return time.Unix(int64(seconds), 0), err == nil
}

// WithMethods returns e with the methods that its server serves, in the form of [MethodsName]. e stays as it is.
func (e Endpoint) WithMethods(text string) Endpoint { return e.with(MethodsName, text) }

// WithStarted returns e with the time at which its server started. e stays as it is.
func (e Endpoint) WithStarted(at time.Time) Endpoint {
	return e.with(StartedName, strconv.FormatInt(at.Unix(), 10))
}

// WithLeaving returns e with the mark, to be written in its place. e stays as it is.
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

// Equal reports whether e and o say the same. A nil Metadata equals an empty one.
func (e Endpoint) Equal(o Endpoint) bool {
	return e.Instance == o.Instance && e.Addr == o.Addr && e.Version == o.Version && e.Zone == o.Zone &&
		e.Weight == o.Weight && maps.Equal(e.Metadata, o.Metadata)
}

// RingName returns what an endpoint is called on a ring, which has one place for a name: its id or, if the endpoint before it in
// the order of ids has the same one, its address, too. before is the id of that one, "" for none.
func RingName(id, addr, before string) string {
	if id == before {
		return id + " " + addr
	}
	return id
}

// CheckMetadataName refuses the names that users must not give metadata: those that a value keeps for
// Endpoint's own fields, and those under which the runtime publishes something itself.
func CheckMetadataName(name string) error {
	switch name {
	case MethodsName, LeavingName, StartedName:
		return fmt.Errorf("metadata name %q is reserved: the runtime sets it by itself", name)
	}
	return checkFieldName(name)
}

// checkFieldName refuses the names of Endpoint's own fields, under which a value would come back as
// something else.
func checkFieldName(name string) error {
	switch field := fieldName(name); field {
	case nameVersion, nameZone, nameWeight:
		return fmt.Errorf("metadata name %q is reserved: set the endpoint's %s instead", name, field)
	}
	return nil
}

// check refuses what could not be read back from a value as it was.
func (e Endpoint) check() error {
	if err := e.checkPieces(); err != nil {
		return err
	}
	for name, value := range e.Metadata {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return fmt.Errorf("metadata %.80q is not valid UTF-8", name)
		}
		// A weight that is no number was found so in etcd and may go back there.
		if _, number := parseWeight(value); name != nameWeight || number || e.Weight != 0 {
			if err := checkFieldName(name); err != nil {
				return err
			}
		}
	}
	if !utf8.ValidString(e.Version) || !utf8.ValidString(e.Zone) || !utf8.ValidString(e.Instance) {
		return errors.New("instance, version and zone must be valid UTF-8")
	}
	return nil
}

func (e *Endpoint) checkPieces() error {
	if len(e.Metadata) > MaxMetadata {
		names := slices.Sorted(maps.Keys(e.Metadata))
		return fmt.Errorf("%d pieces of metadata, more than %d: leave out %.80q, say", len(names), MaxMetadata, names[MaxMetadata])
	}
	return nil
}

// Entry is an endpoint as found under one etcd key.
type Entry struct {
	Endpoint       *Endpoint
	Layout         Layout
	CreateRevision int64
}

// Merge turns the entries of one service key into its set of endpoints: one an address, sorted by
// instance, then address. An instance written in several layouts is one endpoint: an entry that says more than the
// address wins over one that does not, then a layout that carries metadata over one that does not, then the newer
// entry. It returns the indexes of the entries that make up the set, in the order of the set.
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
		a, b := entries[i].Endpoint, entries[j].Endpoint
		return cmp.Or(cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.Addr, b.Addr))
	})
	return set
}

// beats orders entries with one address. Entries in no order say the same, so that the input's order is of no matter.
func (e *Entry) beats(o *Entry) bool {
	if says := e.Endpoint.says(); says != o.Endpoint.says() {
		return says
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

// says reports whether e says more than its address.
func (e *Endpoint) says() bool {
	return e.Version != "" || e.Zone != "" || e.Weight != 0 || len(e.Metadata) > 0
}

// compare orders endpoints by what they say, so that of two the one that says more is likely to come first.
func (e *Endpoint) compare(o *Endpoint) int {
	if order := cmp.Or(
		cmp.Compare(len(o.Metadata), len(e.Metadata)),
		cmp.Compare(o.Weight, e.Weight),
		cmp.Compare(o.Version, e.Version),
		cmp.Compare(o.Zone, e.Zone),
		cmp.Compare(e.Instance, o.Instance),
	); order != 0 {
		return order
	}
	names := slices.Sorted(maps.Keys(e.Metadata))
	if order := slices.Compare(names, slices.Sorted(maps.Keys(o.Metadata))); order != 0 {
		return order
	}
	for _, name := range names {
		if order := cmp.Compare(e.Metadata[name], o.Metadata[name]); order != 0 {
			return order
		}
	}
	return 0
}
