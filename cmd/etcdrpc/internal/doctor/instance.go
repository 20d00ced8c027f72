package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// longLease is the TTL, in seconds, from which a lease expires too late to
// remove a dead server.
const longLease = 24 * 60 * 60

// longWait is the remaining time of a lease, in seconds, up to which a remedy
// lets the lease remove a dead server. Beyond it, the remedy has a command that
// deletes the key.
const longWait = 60

// noLease finds entries that outlive their server, except those of unreachable
// servers: see unreachableAddress.
func (x *subject) noLease() {
	for _, i := range x.Instances {
		granted := x.leases[i.Entry.Lease].Granted

		switch {
		case x.isUnreachable(&i):
		case granted >= longLease:
			problem := fmt.Sprintf("the entry is on a lease of %s, so it stays that long when its server dies",
				output.Seconds(granted))
			x.report(problem,
				"give its server a shorter lease: lease_ttl in the proto, runtime.WithLeaseTTL, or --lease-ttl of etcdrpc register",
				i.Entry.Key)

		case i.Entry.Lease == 0:
			x.report("the entry has no lease, so it stays when its server dies",
				"have its server register itself, unless the entry is kept on purpose, as by Registry.Add; if its server is gone, delete the entry",
				i.Entry.Key)
		}
	}
}

// keptLeaving finds entries that are marked as being withdrawn, so that clients
// do not call them, but that are not deleted.
func (x *subject) keptLeaving() {
	for _, i := range x.Instances {
		if i.Leaving() && x.leases[i.Entry.Lease].renewed {
			x.report(i.Addr+" is marked as being withdrawn, and stays: its lease is renewed, and nobody calls it",
				"look at its server's log; if it should serve, restart it; if not, stop it, and the entry expires with its lease",
				i.Entry.Key)
		}
	}
}

// expiring finds entries, and the live config, that expire with their lease.
func (x *subject) expiring() {
	x.expiringLease()
	x.leasedConfig()
}

// expiringLease finds entries whose lease is not renewed, except those of
// unreachable servers: see unreachableAddress.
func (x *subject) expiringLease() {
	for _, i := range x.Instances {
		lease := x.leases[i.Entry.Lease]
		if i.Leaving() ||
			x.dialErrors[i.Addr] != nil ||
			!lease.notRenewed ||
			lease.missedRenewal {
			continue
		}

		problem := x.leaseState(i.Entry.Lease)
		if x.probed {
			problem += fmt.Sprintf(", though %s accepts connections", i.Addr)
		}

		x.report(problem,
			"look at the server's log for why it does not reach etcd: when the lease expires, clients stop calling it",
			i.Entry.Key)
	}
}

// leaseState describes the lease of an entry.
func (p *examination) leaseState(id int64) string {
	if id == 0 {
		return "its entry has no lease"
	}

	l := p.leases[id]
	state := "its lease %s has %s of %s left"
	if l.notRenewed {
		state = "nobody renews its lease %s, which has %s of %s left"
	}

	return fmt.Sprintf(state, inventory.LeaseName(id),
		output.Seconds(max(l.Remaining, 0)), output.Seconds(l.Granted))
}

// isUnreachable reports whether the address of an instance accepts no
// connection. An address that means another host to this caller does not count,
// unless the kind local-address is skipped.
func (x *subject) isUnreachable(i *inventory.Instance) bool {
	return !i.Leaving() &&
		x.dialErrors[i.Addr] != nil &&
		(x.misleads(i) == "" || slices.Contains(x.skip, kindLocalAddress))
}

// unreachableAddress finds addresses that accept no connection. Entries with
// the same address share a finding, except those whose remedy is to delete
// them.
func (x *subject) unreachableAddress() {
	for _, i := range x.Instances {
		if !x.isUnreachable(&i) {
			continue
		}

		cause := i.Addr
		fix := "if the lease expires, the server is dead and the entry is deleted with it; if it is renewed, the server lives: "

		if i.Entry.Lease == 0 || x.leases[i.Entry.Lease].Remaining > longWait {
			cause = i.Entry.Key
			fix = fmt.Sprintf("if the server is dead: %s; else ",
				x.deleteCommand(i.Entry.Key))
		}

		err := x.dialErrors[i.Addr]
		if op, ok := errors.AsType[*net.OpError](err); ok { // the whole text repeats the address
			err = op.Err
		}

		problem := fmt.Sprintf("%s accepts no connection from here: %s; %s",
			i.Addr, err, x.leaseState(i.Entry.Lease))
		x.add(cause, x.check.kind, x.check.severity, problem,
			fix+"look at the address that it advertises (GRPC_ADVERTISE_ADDR) and at the network in between; if only this host cannot reach it: --no-dial",
			i.Entry.Key)
	}
}

// metadata finds metadata that callers cannot parse, or that is likely a
// mistake.
func (x *subject) metadata() {
	for _, i := range x.Instances {
		if i.Leaving() {
			continue
		}

		found := func(problem, fix string) {
			x.report(i.Addr+" "+problem, fix, i.Entry.Key)
		}

		if text, said := i.Metadata["weight"]; said && i.Weight == 0 {
			found(fmt.Sprintf("has the weight %q, which is not a whole number up to 4294967295, so callers ignore it", text),
				"have its server write a whole number")
		}

		if text, said := i.Metadata[endpoint.StartedName]; said {
			if at, ok := i.Started(); !ok || time.Until(at) > time.Hour {
				found(fmt.Sprintf("has the start time %q, which is not a past one in seconds since 1970, so slow_start misjudges it", text),
					"have its server write seconds and keep the right time, or leave "+
						endpoint.StartedName+" out")
			}
		}

		if n := len(i.Metadata[endpoint.MethodsName]); n > endpoint.MaxMethods {
			found(fmt.Sprintf("publishes its methods in %d bytes, more than the %d that callers read, so they send any method to it",
				n, endpoint.MaxMethods),
				"have its server leave "+endpoint.MethodsName+" out, or name fewer")
		}
	}
}

// malformed finds entries that no client can read. A JSON object is only a
// warning, because a json_layout in the proto may name its fields. If the
// service has no well-formed entry, the object is only a note: the service may
// be another framework's, without gRPC.
func (x *subject) malformed() {
	for _, i := range x.Malformed {
		if errors.Is(i.Err, endpoint.ErrDisabled) {
			continue
		}

		problem := "no client can read the entry"
		severity := Error
		fix := "find its writer, and have it use a layout of docs/layouts.md"

		isObject := json.Unmarshal(i.Entry.Value, new(struct{})) == nil &&
			!strings.Contains(i.Err.Error(), "etcd's naming entry")
		if isObject {
			problem += ", unless the proto has a json_layout"
			severity = Warning
			fix = "if the proto has none: " + fix

			if len(x.Instances) == 0 {
				severity = Note
			}
		}

		if i.Entry.Lease != 0 {
			fix += "; it is on a lease, so it expires when its writer is dead"
		} else if !isObject {
			fix += "; if nobody writes it any more: " + x.deleteCommand(i.Entry.Key)
		}

		x.reportAs(severity, problem+": "+i.Err.Error(), fix, i.Entry.Key)
	}
}

// ownHost is the meaning of loopback addresses.
const ownHost = "the caller's own host"

// meaning returns what an address means if that differs between callers, ""
// otherwise.
func meaning(addr string) string {
	at, _ := netip.ParseAddrPort(addr) // fails for host names
	switch ip := at.Addr().Unmap(); {
	case ip.IsUnspecified():
		return "any address of " + ownHost
	case store.Local(addr):
		return ownHost
	case ip.IsLinkLocalUnicast():
		return "a host on the caller's own link"
	case ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "a group of hosts"
	}

	return ""
}

// misleads returns what the address of an instance means, "" if clients reach
// the instance there. Loopback addresses are correct if etcd and all instances
// of the service are on one host, as on a developer's machine.
func (x *subject) misleads(i *inventory.Instance) string {
	means := meaning(i.Addr)
	switch {
	case i.Leaving():
		return ""
	case means != ownHost:
		return means
	case x.elsewhere != "":
		return means + ", and " + x.elsewhere + " another"
	case x.remoteEtcd:
		return means + ", and etcd is on another"
	}

	return ""
}

// misleadingAddress finds addresses that mean another host to each caller.
func (x *subject) misleadingAddress() {
	for _, i := range x.Instances {
		if means := x.misleads(&i); means != "" {
			problem := fmt.Sprintf("the address %s means %s: clients elsewhere call something else there, or nothing",
				i.Addr, means)
			x.add(x.Key+" "+means, x.check.kind, x.check.severity, problem,
				"have its server advertise an address that callers reach: servers of this project detect theirs, or take it from GRPC_ADVERTISE_ADDR; if all callers are on this host, look at the other entries",
				i.Entry.Key)
		}
	}
}
