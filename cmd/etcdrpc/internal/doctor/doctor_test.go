package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
)

// TestLease_Rechecked checks the state of a lease after two reads, for replaced
// leases and others.
func TestLease_Rechecked(t *testing.T) {
	for _, tt := range []struct {
		name                      string
		before, now               int64 // remaining seconds of 15
		after                     time.Duration
		replaced                  bool
		notRenewed, missedRenewal bool
		renewed                   bool
	}{
		{"renewed", 4, 14, 2 * time.Second, false, false, false, true},
		{"not renewed", 5, 2, 3 * time.Second, false, true, false, false},
		{"not renewed yet by a client that renews late", 5, 3, 2 * time.Second, false, false,
			false, false},
		{"expired", 1, -1, recheckDelay, false, true, false, false},
		{"replaced, renewed a moment late", 5, 15, 2 * time.Second, true, false, false, true},
		{"replaced, renewed in time", 14, 12, 6 * time.Second, true, false, false, true},
		{"replaced, renewal not due yet", 12, 10, 2 * time.Second, true, false, false, false},
		{"replaced, missed one renewal", 14, 8, 6 * time.Second, true, false, true, false},
		{"replaced, missed two renewals", 5, 2, 3 * time.Second, true, true, true, false},
		{"replaced, expired", 2, -1, recheckDelay, true, true, true, false},
	} {
		l := lease{
			LeaseTime: inventory.LeaseTime{Remaining: tt.before, Granted: 15},
			replaced:  tt.replaced,
		}

		l = l.rechecked(inventory.LeaseTime{Remaining: tt.now, Granted: 15}, tt.after)
		if l.notRenewed != tt.notRenewed ||
			l.renewed != tt.renewed ||
			l.missedRenewal != tt.missedRenewal ||
			l.Remaining != tt.now {
			t.Errorf("%s: rechecked() = %+v, want %+v", tt.name, l, tt)
		}
	}
}

// TestSuspectLeases finds the leases of entries that may be of an earlier run
// of a server.
func TestSuspectLeases(t *testing.T) {
	entry := func(key, value string, lease, revision int64) inventory.Entry {
		return inventory.Entry{
			Key:            key,
			Value:          []byte(value),
			Lease:          lease,
			CreateRevision: revision,
			ModRevision:    revision,
		}
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

// TestLongLease checks that the remedy for a dead server does not wait for a
// lease of an hour or a year, and deletes each of its entries.
func TestLongLease(t *testing.T) {
	for _, granted := range []int64{60 * 60, 365 * 24 * 60 * 60} {
		p := examinationOf(inventory.All([]inventory.Entry{
			{
				Key:   "acme/order/a",
				Value: []byte("10.0.0.7:1"),
				Lease: 1,
			}, {Key: "acme/user/b", Value: []byte("10.0.0.7:1"), Lease: 1},
		}))

		p.probed = true
		p.dialErrors = map[string]error{
			p.addresses()[0]: errors.New("connection refused"),
		}
		p.leases = map[int64]lease{
			1: {LeaseTime: inventory.LeaseTime{Remaining: granted - 1, Granted: granted}},
		}
		p.check()

		for _, key := range []string{"acme/order/a", "acme/user/b"} {
			if !slices.ContainsFunc(p.findings, func(f Finding) bool {
				return f.Kind == kindUnreachable &&
					strings.Contains(f.Fix, "if the server is dead: env ") &&
					strings.Contains(f.Fix, "ETCDCTL_USER= etcdctl del "+key+";")
			}) {
				t.Errorf("lease of %d s: found %+v, want %s with the command that deletes %s",
					granted, p.findings, kindUnreachable, key)
			}
		}
	}
}

// examinationOf returns an examination of services.
func examinationOf(services []*inventory.Service, etcd ...string) *examination {
	return new(Options).newExamination(&store.Snapshot{Services: services},
		func(key string) string { return key }, etcd)
}

func TestMisleadingAddress(t *testing.T) {
	const never, among, always = "10.0.0.7:1 user.internal:1 localhosts:1 [2001:db8::7]:1 [::ffff:10.0.0.7]:1",
		"127.0.0.1:1 127.9.9.9:1 [::1]:1 [::ffff:127.0.0.1]:1 LocalHost.:1 localhost:1 user.localhost:1",
		"0.0.0.0:1 169.254.1.1:1 239.1.1.1:1 255.255.255.255:1 [::]:1 [::ffff:0.0.0.0]:1 [fe80::1]:1"

	// addresses, and whether the service is on one host
	for _, tt := range []struct{ etcd, others, want string }{
		{"127.0.0.1:2379", "", "one host"},
		{"http://localhost:2379", "[::1]:9", "one host"},
		{"unix:///run/etcd.sock", "127.0.0.1:9", "one host"},
		{"https://etcd-1:2379", "", ""},
		{"10.0.0.1:2379", "127.0.0.1:9", ""},
		{"127.0.0.1:2379", "127.0.0.1:9 10.0.0.8:9", ""},
	} {
		for _, addr := range strings.Fields(never + " " + among + " " + always) {
			entries := []inventory.Entry{
				{Key: "acme/elsewhere/10.0.0.9:1", Value: []byte("10.0.0.9:1"), Lease: 1}}
			for addr := range strings.FieldsSeq(addr + " " + tt.others) {
				entries = append(entries,
					inventory.Entry{Key: "acme/user/" + addr, Value: []byte(addr), Lease: 1})
			}

			p := examinationOf(inventory.All(entries), tt.etcd)
			p.check()
			want := strings.Contains(always, addr) || tt.want == "" && strings.Contains(among, addr)

			got := slices.ContainsFunc(p.findings, func(f Finding) bool {
				return f.Kind == kindLocalAddress && slices.Contains(f.Where, "acme/user/"+addr)
			})
			if got != want {
				t.Errorf("etcd at %s, %s beside %q: found = %v, want %v", tt.etcd, addr, tt.others,
					got, want)
			}
		}
	}
}

// TestMistypedZones checks which zones count as mistyped forms of more frequent
// zones.
func TestMistypedZones(t *testing.T) {
	for _, tt := range []struct{ zones, want string }{ // zones has the zone of each instance
		{"eu-1A,eu-1a", "eu-1A"}, {"eu-1a,eu-1A,eu-1A", "eu-1a"}, {"eu1a,eu-1a,eu-1a,eu-1a,eu-1a",
			"eu1a"}, {"us-east1,us-east-1", ""}, {"eu-1a ,eu-1a,eu-1a", "eu-1a "},
		{"eu-1-1,eu-11,eu-11", ""}, {"eu-1a,eu-1b,eu-2a", ""}, {"a1,1a,a-2", ""}, {
			"zonea,zoneb,zoneb,zoneb,zoneb", ""}, {"北京,上海,-", ""},
		{"eu-lb,eu-1b,eu-1b,eu-1b,eu-1b", "eu-lb"}, {"eu-wst,eu-west,eu-west,eu-west,eu-west",
			"eu-wst"}, {"eu-1a,eu-1b,eu-1b,eu-1b,eu-1b", ""},
	} {
		s := &inventory.Service{Key: "acme/user"}
		for n, zone := range strings.Split(tt.zones, ",") {
			s.Add(inventory.Entry{
				Key:   fmt.Sprint("acme/user/", n),
				Value: fmt.Appendf(nil, `{"Addr":"10.0.0.%d:1","Metadata":{"zone":%q}}`, n, zone),
			})
		}

		p := examinationOf([]*inventory.Service{s})
		p.check()

		got := slices.DeleteFunc(p.findings, func(f Finding) bool { return f.Kind != "zone" })
		if (len(got) == 1) != (tt.want != "") || len(got) > 1 || len(got) == 1 &&
			!strings.HasPrefix(got[0].Problem, fmt.Sprintf("the zone %q (", tt.want)) {
			t.Errorf("zones %s: found %+v, want %q", tt.zones, got, tt.want)
		}
	}
}

// TestReport_Many checks that the number of all findings is printed, and then
// the first of each kind with their keys.
func TestReport_Many(t *testing.T) {
	r := &Report{Findings: []Finding{
		{Kind: "leader", Problem: "another", Where: strings.Fields("a b c d e f")}}}
	for n := range maxOfKind + 2 {
		r.Findings = append(r.Findings,
			Finding{Kind: "no-lease", Problem: fmt.Sprint("problem ", n)})
	}

	var out strings.Builder
	if err := r.Show(&out, output.FormatTable); err != nil {
		t.Fatal(err)
	}

	text := out.String()
	if strings.Count(text, "no-lease: problem") != maxOfKind ||
		!strings.Contains(text, " leader at a, b, c, d, e, f: another\n") ||
		!strings.HasPrefix(text,
			"13 findings in 0 services with 0 instances. By kind, at most 10 of each below: 1 leader, 12 no-lease.\n") {
		t.Errorf("Show prints\n%s\nwant %d findings of kind no-lease, after the number of all",
			text, maxOfKind)
	}
}

// TestCheckHealth_AllAtOnce checks that instances of all services are asked at
// the same time, so that the timeouts of hung ones do not add up. Servers that
// stop must have time to withdraw their entries.
func TestCheckHealth_AllAtOnce(t *testing.T) {
	p := examinationOf(inventory.All([]inventory.Entry{
		{Key: "acme/order/a", Value: []byte("10.0.0.7:1")},
		{Key: "acme/user/b", Value: []byte("10.0.0.8:1")}}))
	p.probeTimeout = 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p.checkHealth(t.Context(), func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})

		if took := time.Since(began); took != p.probeTimeout+recheckDelay {
			t.Errorf("checkHealth of two that hang takes %v, want %v", took,
				p.probeTimeout+recheckDelay)
		}
	})
}

// TestCheckChains checks when a chain ends soon: when one of its certificates,
// even a CA's, ends within 30 days or a third of its lifetime, and no other
// chain lasts longer.
func TestCheckChains(t *testing.T) {
	const day = 24 * time.Hour

	cert := func(lifetime, left time.Duration) *x509.Certificate {
		end := time.Now().Add(left)
		return &x509.Certificate{NotBefore: end.Add(-lifetime), NotAfter: end}
	}
	for _, tt := range []struct {
		lifetime, left time.Duration
		want           bool
	}{{365 * day, 29 * day, true}, {365 * day, 31 * day, false}, {3 * day, 23 * time.Hour, true},
		{3 * day, 25 * time.Hour, false}} {
		leaf := cert(365*day, 200*day)
		ca := cert(tt.lifetime, tt.left)
		lasting := cert(365*day, 100*day)
		one := checkChains([][]*x509.Certificate{{leaf, ca}})

		two := checkChains([][]*x509.Certificate{{leaf, ca}, {leaf, lasting}})
		if (one.kind == kindCertificate) != tt.want || two.kind != "" {
			t.Errorf(
				"a CA of %v ends in %v: %+v, want a finding: %v; with another chain: %+v, want none",
				tt.lifetime, tt.left, one, tt.want, two)
		}
	}
}
