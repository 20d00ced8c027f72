package doctor

import (
	"fmt"
	"strings"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults.
const (
	KindPermission    Kind = "permission"
	KindEmpty         Kind = "empty"
	KindMalformed     Kind = "malformed"
	KindNoLease       Kind = "no-lease"
	KindExpiring      Kind = "expiring"
	KindLeaving       Kind = "leaving"
	KindUnreachable   Kind = "unreachable"
	KindLocal         Kind = "local-address"
	KindDuplicate     Kind = "duplicate-address"
	KindMixedLayouts  Kind = "mixed-layouts"
	KindBadKey        Kind = "bad-key"
	KindBadPolicy     Kind = "bad-policy"
	KindUnlinked      Kind = "unlinked-policy"
	KindNoMatch       Kind = "no-match"
	KindDrain         Kind = "drain"
	KindUnserved      Kind = "unserved-method"
	KindOrphanPolicy  Kind = "orphan-policy"
	KindLane          Kind = "lane"
	KindLeader        Kind = "leader"
	KindMetadata      Kind = "metadata"
	KindNotServing    Kind = "not-serving"
	KindWrongService  Kind = "wrong-service"
	KindCertificate   Kind = "certificate"
	KindTransport     Kind = "transport"
	KindZone          Kind = "zone"
	KindHealthUnknown Kind = "health-unknown"
)

// Severity is the severity of a fault.
type Severity string

// The severities, the worst first.
const (
	Error   Severity = "error"   // calls fail, or go to other instances than configured
	Warning Severity = "warning" // calls work now, but may fail after another event
	Note    Severity = "note"    // information, not a fault
)

// Severities are the severities of faults.
var Severities = []string{string(Error), string(Warning)}

// check is a kind of fault and the functions that find it in a service. Each function does no I/O, and reports only faults of
// this kind, with a remedy. TestDoctor_Faults of cmd/etcdrpc causes each kind.
type check struct {
	kind        Kind
	severity    Severity
	description string
	find        []func(x *subject) // empty if the fault is found while etcd is read
}

type finders = []func(x *subject)

// checks are all checks of doctor, in the order of its help.
var checks = []check{
	{KindPermission, Error, "etcd denies the user a permission that doctor needs", nil},
	{KindEmpty, Error, "nothing that can be called is registered", finders{(*subject).empty}},
	{KindMalformed, Error, "an entry that no client can read", finders{(*subject).malformed}},
	{KindNoLease, Warning, "an entry that stays when its server dies, for a day or for ever", finders{(*subject).noLease}},
	{KindExpiring, Warning, "a lease that is not renewed any more, or a live policy on a lease", finders{(*subject).expiringLease, (*subject).leasedPolicy}},
	{KindLeaving, Warning, "an entry that is marked as being withdrawn, and stays", finders{(*subject).keptLeaving}},
	{KindUnreachable, Error, "an address that accepts no connection", finders{(*subject).unreachableAddress}},
	{KindLocal, Error, "an address that refers to the caller's own host", finders{(*subject).misleadingAddress}},
	{KindDuplicate, Error, "several instances with one address", finders{(*subject).duplicates}},
	{KindMixedLayouts, Warning, "a service written in several layouts", finders{(*subject).mixedLayouts}},
	{KindBadKey, Error, "a service key that clients refuse", finders{(*subject).badKey}},
	{KindBadPolicy, Error, "a live policy that clients refuse", finders{(*subject).refusedPolicy}},
	{KindUnlinked, Warning, "a live policy that needs a package that clients do not link by default", finders{(*subject).unlinkedPolicy}},
	{KindNoMatch, Warning, "a split, drain, route or zone of a live policy that does not fit the instances",
		finders{(*subject).misfits, (*subject).outsideGroups, (*subject).missingZones}},
	{KindDrain, Warning, "an old drain that applies to an instance registered since", finders{(*subject).drainedSince}},
	{KindUnserved, Warning, "a live policy that configures a service or method that no instance serves", finders{(*subject).unserved}},
	{KindOrphanPolicy, Warning, "a live policy for a service without instances", finders{(*subject).orphanPolicy}},
	{KindLane, Warning, "lanes without routes in the live policy, or a strict one that is drained", finders{(*subject).missingRoutes, (*subject).drainedLanes}},
	{KindLeader, Error, "a leader that no caller can reach", finders{(*subject).leader}},
	{KindMetadata, Warning, "metadata of an instance that callers cannot read", finders{(*subject).metadata}},
	{KindZone, Warning, "a zone that is spelled almost as another", finders{(*subject).mistypedZones}},
	{KindNotServing, Error, "a server whose health check says that it is not serving, fails, or hangs (--deep)",
		ofHealth(KindNotServing, "look at its server's log, and at the address that it advertises (GRPC_ADVERTISE_ADDR)")},
	{KindWrongService, Error, "an address at which another service's server is now (--deep)",
		ofHealth(KindWrongService, "look at which server is there, and at the address that the service's own server advertises (GRPC_ADVERTISE_ADDR)")},
	{KindCertificate, Error, "a server certificate that clients refuse, or that ends within 30 days (--deep)",
		ofHealth(KindCertificate, "renew or replace it, or say what clients trust and expect: --service-cacert FILE, --service-authority KEY=NAME")},
	{KindTransport, Error, "servers that speak plaintext where others or --plaintext say TLS, or the reverse (--deep)", finders{(*subject).otherTransport}},
	{KindHealthUnknown, Note, "a health service that does not know a service of its server, as clients with health_check require (--deep)", finders{(*subject).unknownHealth}},
}

// KindNames returns the names of all kinds.
func KindNames() (names []string) {
	for _, c := range checks {
		names = append(names, string(c.kind))
	}
	return names
}

// KindsHelp returns the help text: a line for each kind.
func KindsHelp() string {
	var help strings.Builder
	for _, c := range checks {
		fmt.Fprintf(&help, "  %-7s  %-18s %s\n", c.severity, c.kind, c.description)
	}
	return help.String()
}
