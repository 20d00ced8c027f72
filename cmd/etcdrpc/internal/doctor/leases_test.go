package doctor

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
)

// TestLease_Rechecked checks the state of a lease after two reads, for replaced leases and others.
func TestLease_Rechecked(t *testing.T) {
	for _, tt := range []struct {
		name                      string
		before, now               int64 // seconds left of 15
		after                     time.Duration
		replaced                  bool
		notRenewed, missedRenewal bool
		renewed                   bool
	}{
		{"renewed", 4, 14, 2 * time.Second, false, false, false, true},
		{"not renewed", 5, 2, 3 * time.Second, false, true, false, false},
		{"not renewed yet by a client that renews late", 5, 3, 2 * time.Second, false, false, false, false},
		{"expired", 1, -1, recheckDelay, false, true, false, false},
		{"replaced, renewed a moment late", 5, 15, 2 * time.Second, true, false, false, true},
		{"replaced, renewed in time", 14, 12, 6 * time.Second, true, false, false, true},
		{"replaced, renewal not due yet", 12, 10, 2 * time.Second, true, false, false, false},
		{"replaced, missed one renewal", 14, 8, 6 * time.Second, true, false, true, false},
		{"replaced, missed two renewals", 5, 2, 3 * time.Second, true, true, true, false},
		{"replaced, expired", 2, -1, recheckDelay, true, true, true, false},
	} {
		l := lease{LeaseTime: inventory.LeaseTime{Left: tt.before, Granted: 15}, replaced: tt.replaced}
		if l = l.rechecked(inventory.LeaseTime{Left: tt.now, Granted: 15}, tt.after); l.notRenewed != tt.notRenewed || l.renewed != tt.renewed || l.missedRenewal != tt.missedRenewal || l.Left != tt.now {
			t.Errorf("%s: rechecked() = %+v, want %+v", tt.name, l, tt)
		}
	}
}

// TestSuspectLeases finds the leases of entries that an earlier run of a server may have left.
func TestSuspectLeases(t *testing.T) {
	entry := func(key, value string, lease, revision int64) inventory.Entry {
		return inventory.Entry{Key: key, Value: []byte(value), Lease: lease, CreateRevision: revision, ModRevision: revision}
	}
	p := &examination{services: inventory.All([]inventory.Entry{
		entry("acme/user/a", "10.0.0.1:1", 1, 1),
		entry("acme/user/b", "10.0.0.1:1", 2, 2),
		entry("acme/user/c", `{"Addr":"10.0.0.2:1"}`, 3, 3),
		entry("acme/user/d", "10.0.0.2:1", 4, 4), // the same server in another layout
		entry("acme/user/e", "10.0.0.3:1", 5, 5),
		entry("acme/user/f", "10.0.0.3:1", 5, 6),
		entry("acme/user/g", `{"Addr":"10.0.0.4:1"}`, 7, 7),
		entry("acme/user/h", `{"Addr":"10.0.0.4:1","Metadata":{"grpc_leaving":"true"}}`, 8, 8),
		entry("acme/user/i", "10.0.0.5:1", 9, 9),
		entry("acme/user/j", "10.0.0.5:1", 0, 10),
	})}
	if _, got := p.suspectLeases(); len(got) != 1 || !got[1] {
		t.Errorf("suspectLeases() = %v as replaced, want lease 1 alone", got)
	}
}

// TestLongLease checks that a dead server is found, also at an address that may mislead, and that the remedy does not wait for a
// lease of an hour or a year.
func TestLongLease(t *testing.T) {
	for _, granted := range []int64{60 * 60, 365 * 24 * 60 * 60} {
		p := examinationOf(inventory.All([]inventory.Entry{{Key: "acme/user/127.0.0.1:1", Value: []byte("127.0.0.1:1"), Lease: 1}}), "10.0.0.1:1")
		p.probed, p.dialErrors = true, map[string]error{p.addresses()[0]: errors.New("connection refused")}
		p.leases = map[int64]lease{1: {LeaseTime: inventory.LeaseTime{Left: granted - 1, Granted: granted}}}
		p.check()
		if !slices.ContainsFunc(p.findings, func(f Finding) bool {
			return f.Kind == kindUnreachable && strings.Contains(f.Fix, "if the server is dead: env ") && strings.Contains(f.Fix, "ETCDCTL_USER= etcdctl del acme/user/127.0.0.1:1")
		}) {
			t.Errorf("lease of %d s: found %+v, want %s with the command that deletes the entry", granted, p.findings, kindUnreachable)
		}
	}
}

// examinationOf returns an examination of services.
func examinationOf(services []*inventory.Service, etcd ...string) *examination {
	return new(Options).newExamination(&store.Snapshot{Services: services}, func(key string) string { return key }, etcd)
}
