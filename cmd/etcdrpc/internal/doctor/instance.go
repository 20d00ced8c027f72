package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

const (
	// longLease is from how many seconds on a lease does not tell a dead server in useful time.
	longLease = 24 * 60 * 60
	// clockError is how far clocks may run apart before a time counts as to come.
	clockError = time.Minute
)

// noLease finds the entries that do not go when their server dies.
func (x *subject) noLease() {
	for n := range x.Instances {
		i := &x.Instances[n]
		switch granted := x.leases[i.Entry.Lease].Granted; {
		case i.Entry.Lease == 0:
			x.report(KindNoLease, "the entry hangs on no lease, so it stays when its server dies",
				"unless somebody keeps it there on purpose, as Registry.Add does, have its server register itself"+x.deletionUnless(i, "; if it has no server any more"), i.Entry.Key)
		case granted >= longLease:
			x.report(KindNoLease, fmt.Sprintf("the entry hangs on a lease of %s, so it stays that long when its server dies", output.Seconds(granted)),
				"have its server register itself, on a lease of seconds that it renews"+x.deletionUnless(i, "; if it has no server any more"), i.Entry.Key)
		}
	}
}

// stuckLeaving finds the entries that stay though they are marked as being withdrawn: clients call them no more.
func (x *subject) stuckLeaving() {
	for _, i := range x.Instances {
		if i.Leaving() && x.leases[i.Entry.Lease].renewed {
			x.report(KindLeaving, i.Addr+" is marked as being withdrawn, and stays: its lease is renewed, and nobody calls it",
				"look at its server's log; if it is to serve, restart it; if not, stop it, and the entry goes with its lease", i.Entry.Key)
		}
	}
}

// staleLease finds the entries whose lease nobody renews. That a dead server's is not goes without saying.
func (x *subject) staleLease() {
	for _, i := range x.Instances {
		lease := x.leases[i.Entry.Lease]
		if i.Leaving() || x.isMisleading(i.Addr) || x.dead[i.Addr] != nil || !lease.stale || lease.behind {
			continue
		}
		problem := x.leaseState(i.Entry.Lease)
		if x.probed {
			problem += fmt.Sprintf(", though %s accepts connections", i.Addr)
		}
		x.report(KindExpiring, problem, "look at the server's log for why it does not reach etcd: when the time is up, its clients lose it", i.Entry.Key)
	}
}

// leaseState says what is known of an entry's lease.
func (p *patient) leaseState(id int64) string {
	if id == 0 {
		return "its entry has no lease"
	}
	l, state := p.leases[id], "its lease %s has %s of %s left"
	if l.stale {
		state = "nobody renews its lease %s, which has %s of %s left"
	}
	return fmt.Sprintf(state, survey.LeaseName(id), output.Seconds(max(l.Left, 0)), output.Seconds(l.Granted))
}

// deadAddress finds the addresses that accept no connection: each once, with the entries of all services.
func (x *subject) deadAddress() {
	for _, i := range x.Instances {
		key, lease := i.Entry.Key, x.leases[i.Entry.Lease]
		if i.Leaving() || x.dead[i.Addr] == nil || x.isMisleading(i.Addr) {
			continue
		}
		if told, ok := x.unreachable[i.Addr]; ok {
			x.findings[told].Where = append(x.findings[told].Where, x.full(key))
			continue
		}
		x.unreachable[i.Addr] = len(x.findings)
		fix := "if the lease runs out, the server is dead and the entry goes by itself; if it is renewed, the server lives: "
		if i.Entry.Lease == 0 || lease.Granted >= longLease {
			fix = fmt.Sprintf("if the server is dead: %s; else ", x.deletion(key))
		}
		x.report(KindUnreachable, fmt.Sprintf("%s accepts no connection from here: %s; %s", i.Addr, x.reason(x.dead[i.Addr]), x.leaseState(i.Entry.Lease)),
			fix+"look at the address that it advertises (GRPC_ADVERTISE_ADDR) and at what is between; if only this host cannot reach it: --no-dial", key)
	}
}

// reason says why a connection failed, without the address, which is told already.
func (d *Options) reason(err error) string {
	var op *net.OpError
	var timeout net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer within " + d.probeTimeout.String()
	case errors.As(err, &op):
		return op.Err.Error()
	}
	return err.Error()
}

// metadata finds what an instance says of itself and no caller can read, or hardly means.
func (x *subject) metadata() {
	for n := range x.Instances {
		if i := &x.Instances[n]; !i.Leaving() {
			x.metadataOf(i)
		}
	}
}

func (x *subject) metadataOf(i *survey.Instance) {
	found := func(problem, fix string) { x.report(KindMetadata, i.Addr+" "+problem, fix, i.Entry.Key) }
	if text, said := i.Metadata["weight"]; said && i.Weight == 0 {
		found(fmt.Sprintf("has the weight %.40q, which is no whole number up to 4294967295, so callers take it for none", text), "have its server write a whole number")
	}
	if text, said := i.Metadata[endpoint.StartedName]; said {
		if _, err := strconv.ParseUint(text, 10, 33); err != nil {
			found(fmt.Sprintf("says that it started at %.40q, which are no seconds since 1970, so slow_start passes it by", text), "have its server write seconds, or leave "+endpoint.StartedName+" out")
		}
	}
	if n := len(i.Metadata[endpoint.MethodsName]); n > endpoint.MaxMethods {
		found(fmt.Sprintf("publishes its methods in %d bytes, more than the %d that callers read, so they send any method to it", n, endpoint.MaxMethods),
			"have its server leave "+endpoint.MethodsName+" out, or name fewer")
	}
	if host, port, err := net.SplitHostPort(i.Addr); err == nil && !strings.Contains(string(i.Entry.Value), i.Addr) && strings.Count(host, ":") > 1 {
		if at := strings.LastIndexByte(host, ':'); len(host)-at > 4 && strings.Trim(host[at+1:], "0123456789") == "" {
			found(fmt.Sprintf("is called at port %s, for its entry has the IPv6 address %s and no port: without brackets, %s is no port of %s", port, host, host[at+1:], host[:at]),
				fmt.Sprintf("if it is one, have its server write [%s]:%s", host[:at], host[at+1:]))
		}
	}
}

// malformed tells of the entries that no client can read. A remedy never deletes what lives.
func (x *subject) malformed() {
	for n := range x.Malformed {
		i, fix := &x.Malformed[n], "find out who writes it and have that write a layout of docs/layouts.md"
		switch {
		case x.leases[i.Entry.Lease].stale:
			fix += "; nobody renews its lease, with which it goes"
		case i.Entry.Lease != 0:
			fix += "; it is on a lease, so it goes by itself when its writer is dead"
		default:
			fix += x.deletionUnless(i, "; if nobody writes it any more")
		}
		x.report(KindMalformed, "no client can read the entry: "+i.Err.Error(), fix, i.Entry.Key)
	}
}

// deletionUnless advises to delete an entry without a lease on a condition, unless its server lives. "" means that it does.
func (p *patient) deletionUnless(i *survey.Instance, condition string) string {
	if addr := addressOf(i); p.probed && addr != "" && p.dead[addr] == nil {
		return ""
	}
	return condition + ": " + p.deletion(i.Entry.Key)
}

// addressOf returns the address of an entry, or the first that is seen in one that clients cannot read, "" for none.
func addressOf(i *survey.Instance) string {
	if i.Err == nil {
		return i.Addr
	}
	texts := []string{i.Instance, string(i.Entry.Value)}
	for _, text := range texts {
		if addr := addressIn(text); addr != "" {
			return addr
		}
	}
	return ""
}

// addressIn returns the address that a text is, or begins with as a URL does, "" for none.
func addressIn(text string) string {
	if _, rest, ok := strings.Cut(text, "://"); ok {
		text = rest
	}
	if end := strings.IndexAny(text, "/?,#"); end >= 0 {
		text = text[:end]
	}
	if !survey.IsAddress(text) {
		return ""
	}
	return text
}
