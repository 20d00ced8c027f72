package doctor

import (
	"fmt"
	"strings"
)

// Kind is a sort of fault.
type Kind string

// The kinds of faults.
const (
	KindPermission   Kind = "permission"
	KindEmpty        Kind = "empty"
	KindMalformed    Kind = "malformed"
	KindNoLease      Kind = "no-lease"
	KindExpiring     Kind = "expiring"
	KindUnreachable  Kind = "unreachable"
	KindLocal        Kind = "local-address"
	KindDuplicate    Kind = "duplicate-address"
	KindMixedLayouts Kind = "mixed-layouts"
	KindBadKey       Kind = "bad-key"
	KindNestedKey    Kind = "nested-key"
	KindNeighbour    Kind = "neighbour"
	KindTLSName      Kind = "tls-name"
	KindBadPolicy    Kind = "bad-policy"
	KindOrphanPolicy Kind = "orphan-policy"
	KindLane         Kind = "lane"
	KindPlaintext    Kind = "plaintext-password"
	KindUnlinked     Kind = "unlinked-policy"
	KindNoMatch      Kind = "no-match"
	KindUnserved     Kind = "unserved-method"
	KindNotGRPC      Kind = "not-grpc" // this and the next with --deep alone
	KindNotServing   Kind = "not-serving"
	KindTransport    Kind = "transport"
	KindCertificate  Kind = "certificate"
	KindJSONLayout   Kind = "json-layout" // of a note
)

// Kinds are all kinds, in the order in which they are shown.
var Kinds = []struct {
	Kind Kind
	what string
}{
	{KindPermission, "etcd does not let the user read what it has to"},
	{KindEmpty, "nothing is registered at the KEY given"},
	{KindMalformed, "an entry that no client can read"},
	{KindNoLease, "an entry that stays when its server dies"},
	{KindExpiring, "a lease that nobody renews any more"},
	{KindUnreachable, "an address that accepts no connection"},
	{KindLocal, "an address that means the host of whoever calls it"},
	{KindDuplicate, "several instances with one address"},
	{KindMixedLayouts, "a service written in several layouts"},
	{KindBadKey, "a service key that no client can be given"},
	{KindNestedKey, "a service below another one"},
	{KindNeighbour, "a service that the readers of another one mix up with it"},
	{KindTLSName, "services whose servers TLS cannot tell apart"},
	{KindBadPolicy, "a live policy that clients do not go by"},
	{KindUnlinked, "a live policy that clients do not link by default"},
	{KindNoMatch, "a split or drain of a live policy that names no instance"},
	{KindUnserved, "a methodConfig of a live policy for what no instance serves"},
	{KindOrphanPolicy, "a live policy for a service without instances"},
	{KindLane, "routes of a live policy that put no instance in a lane, or too many"},
	{KindPlaintext, "a password of --user that is sent without TLS"},
	{KindNotGRPC, "a port that does not speak gRPC (--deep)"},
	{KindNotServing, "a server whose health check says that it is not serving, fails, or hangs (--deep)"},
	{KindTransport, "plaintext where clients use TLS, or the reverse (--deep)"},
	{KindCertificate, "a certificate that clients refuse (--deep)"},
	{KindJSONLayout, "JSON that clients read only with a json_layout: a note, no fault"},
}

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
