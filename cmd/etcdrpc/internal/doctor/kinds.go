package doctor

import (
	"fmt"
	"strings"
)

// Kind is a sort of fault.
type Kind string

// Kinds are all kinds, in the order in which they are shown.
var Kinds []struct {
	Kind Kind
	what string
}

// newKind adds a kind to those that are known, and says what it is.
func newKind(name Kind, what string) Kind {
	Kinds = append(Kinds, struct {
		Kind Kind
		what string
	}{name, what})
	return name
}

// The kinds of faults.
var (
	KindPermission   = newKind("permission", "etcd does not let the user read what it has to")
	KindEmpty        = newKind("empty", "nothing is registered at the KEY given")
	KindMalformed    = newKind("malformed", "an entry that no client can read")
	KindNoLease      = newKind("no-lease", "an entry that stays when its server dies")
	KindExpiring     = newKind("expiring", "a lease that nobody renews any more")
	KindUnreachable  = newKind("unreachable", "an address that accepts no connection")
	KindLocal        = newKind("local-address", "an address that means the host of whoever calls it")
	KindDuplicate    = newKind("duplicate-address", "several instances with one address")
	KindMixedLayouts = newKind("mixed-layouts", "a service written in several layouts")
	KindBadKey       = newKind("bad-key", "a service key that no client can be given")
	KindNestedKey    = newKind("nested-key", "a service below another one")
	KindNeighbour    = newKind("neighbour", "a service that the readers of another one mix up with it")
	KindTLSName      = newKind("tls-name", "services whose servers TLS cannot tell apart")
	KindBadPolicy    = newKind("bad-policy", "a live policy that clients do not go by")
	KindUnlinked     = newKind("unlinked-policy", "a live policy that clients do not link by default")
	KindNoMatch      = newKind("no-match", "a split or drain of a live policy that names no instance")
	KindUnserved     = newKind("unserved-method", "a methodConfig of a live policy for what no instance serves")
	KindOrphanPolicy = newKind("orphan-policy", "a live policy for a service without instances")
	KindLane         = newKind("lane", "routes of a live policy that put no instance in a lane, or too many")
	KindLeader       = newKind("leader", "a leader that no caller can reach")
	KindToken        = newKind("token", "an etcd that gives a leader's token again, by --token")
	KindStarted      = newKind("started", "an instance that says that it has yet to start")
	KindPlaintext    = newKind("plaintext-password", "a password of --user that is sent without TLS")
	KindNotGRPC      = newKind("not-grpc", "a port that does not speak gRPC (--deep)")
	KindNotServing   = newKind("not-serving", "a server whose health check says that it is not serving, fails, or hangs (--deep)")
	KindTransport    = newKind("transport", "plaintext where clients use TLS, or the reverse (--deep)")
	KindCertificate  = newKind("certificate", "a certificate that clients refuse (--deep)")
	KindXDS          = newKind("xds", "what clients by xDS cannot be told (--xds)")
	KindJSONLayout   = newKind("json-layout", "JSON that clients read only with a json_layout: a note, no fault")
)

// KindNames returns the names of all kinds.
func KindNames() []string {
	names := make([]string, len(Kinds))
	for i, k := range Kinds {
		names[i] = string(k.Kind)
	}
	return names
}

// KindsHelp says of each kind what it is, a line each.
func KindsHelp() string {
	var out strings.Builder
	for _, k := range Kinds {
		fmt.Fprintf(&out, "  %-18s %s\n", k.Kind, k.what)
	}
	return out.String()
}

// Finding is one thing that is wrong.
type Finding struct {
	Kind    Kind     `json:"kind"`
	Where   []string `json:"where"` // keys of etcd, in full
	Problem string   `json:"problem"`
	Fix     string   `json:"fix"`
}
