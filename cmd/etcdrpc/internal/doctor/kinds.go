package doctor

import (
	"fmt"
	"strings"
)

// Kind is a sort of fault.
type Kind string

// Severity is how bad a fault is.
type Severity string

// The severities, the worst first.
const (
	Error   Severity = "error"   // calls fail, go astray, or are not spread as somebody has said
	Warning Severity = "warning" // calls go on, until something else happens
	Note    Severity = "note"    // no fault: something to know
)

var (
	names      []string // of the kinds, in the order in which they are shown
	severities = make(map[Kind]Severity)
	help       strings.Builder
)

// newKind adds a kind to those that are known, with how bad it is as a rule, and what it is.
func newKind(kind Kind, severity Severity, what string) Kind {
	names, severities[kind] = append(names, string(kind)), severity
	fmt.Fprintf(&help, "  %-7s  %-18s %s\n", severity, kind, what)
	return kind
}

// The kinds of faults.
var (
	KindPermission    = newKind("permission", Error, "etcd does not let the user read what it has to")
	KindEmpty         = newKind("empty", Error, "nothing that can be called is registered")
	KindMalformed     = newKind("malformed", Error, "an entry that no client can read")
	KindNoLease       = newKind("no-lease", Warning, "an entry that stays when its server dies, for a day or for ever")
	KindExpiring      = newKind("expiring", Warning, "a lease that nobody renews any more, or a live policy on one")
	KindLeaving       = newKind("leaving", Warning, "an entry that its owner withdraws, and that stays")
	KindUnreachable   = newKind("unreachable", Error, "an address that accepts no connection")
	KindLocal         = newKind("local-address", Error, "an address that means the host of whoever calls it")
	KindDuplicate     = newKind("duplicate-address", Error, "several instances with one address")
	KindMixedLayouts  = newKind("mixed-layouts", Warning, "a service written in several layouts")
	KindBadKey        = newKind("bad-key", Error, "a service key that no client can be given")
	KindBadPolicy     = newKind("bad-policy", Error, "a live policy that clients do not go by")
	KindUnlinked      = newKind("unlinked-policy", Warning, "a live policy that clients do not link by default")
	KindNoMatch       = newKind("no-match", Warning, "a split, drain or zone of a live policy that does not fit the instances")
	KindDrain         = newKind("drain", Warning, "a drain that does more than it was meant to")
	KindUnserved      = newKind("unserved-method", Warning, "a methodConfig or healthCheckConfig of a live policy for what no instance serves")
	KindOrphanPolicy  = newKind("orphan-policy", Warning, "a live policy for a service without instances")
	KindLane          = newKind("lane", Warning, "routes of a live policy that put no instance in a lane, or too many, or are missing")
	KindLeader        = newKind("leader", Error, "a leader that no caller can reach")
	KindMetadata      = newKind("metadata", Warning, "what an instance says of itself and no caller can read, or hardly means")
	KindTooMany       = newKind("too-many", Error, "more entries than clients keep")
	KindPlaintext     = newKind("plaintext-password", Warning, "a password of --user that is sent without TLS")
	KindNotServing    = newKind("not-serving", Error, "a server whose health check says that it is not serving, fails, or hangs (--deep)")
	KindWrongService  = newKind("wrong-service", Error, "an address at which another service's server is now (--deep)")
	KindHealthUnknown = newKind("health-unknown", Note, "a health service that does not know a service of its server, as clients with health_check require (--deep)")
	KindXDS           = newKind("xds", Warning, "what clients by xDS cannot be told (--xds)")
)

// KindNames returns the names of all kinds.
func KindNames() []string { return names }

// KindsHelp says of each kind what it is, a line each.
func KindsHelp() string { return help.String() }
