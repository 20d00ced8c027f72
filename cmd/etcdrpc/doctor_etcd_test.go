package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// TestDoctor_Etcd has doctor find what is wrong with etcd itself.
func TestDoctor_Etcd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		members  int
		severity doctor.Severity // "": nothing is wrong
		says     string
		plant    func(*testing.T, *etcdtest.Cluster) // nil: the last member accepts no connection
		mend     func(*testing.T, *etcdtest.Cluster) // as the remedy says; nil: there is nothing to run
	}{
		{"nothing", 1, "", "", func(*testing.T, *etcdtest.Cluster) {}, nil},
		{"no space", 1, doctor.Error, "the alarm NOSPACE", func(t *testing.T, etcd *etcdtest.Cluster) {
			if err := etcd.SetNoSpace(t.Context(), true); err != nil {
				t.Fatal(err)
			}
			// Whoever looks at the rights of a server hears of it, too.
			out, errs, code := executed(t, newApp(), at(etcd, "doctor", "acme/user", "--serve")...)
			if code != exitWrong || !strings.Contains(out, "the alarm NOSPACE") {
				t.Errorf("%d: %s%s", code, out, errs)
			}
		}, func(t *testing.T, etcd *etcdtest.Cluster) {
			revision, err := etcd.Compact(t.Context())
			if err != nil {
				t.Fatal(revision, err)
			}
			for _, endpoint := range etcd.Endpoints() {
				if _, err := etcd.Admin().Defragment(t.Context(), endpoint); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := etcd.Admin().AlarmDisarm(t.Context(), &clientv3.AlarmMember{}); err != nil {
				t.Fatal(err)
			}
		}},
		{"a member that is down", 3, doctor.Warning, "1 of 3 members of etcd accept no connection from here", nil, nil},
		{"an address that does not answer", 3, doctor.Warning, "which --endpoints names", func(_ *testing.T, etcd *etcdtest.Cluster) {
			etcd.Member(2).Cut()
		}, nil},
		{"a learner that was never started", 1, doctor.Warning, "was added and never started, so it takes no other's place", func(t *testing.T, etcd *etcdtest.Cluster) {
			if _, err := etcd.Admin().MemberAddAsLearner(t.Context(), []string{"http://127.0.0.1:1"}); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T, etcd *etcdtest.Cluster) {
			all, err := etcd.Admin().MemberList(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range all.Members {
				if m.Name != "" {
					continue
				}
				if _, err := etcd.Admin().MemberRemove(t.Context(), m.ID); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"users without authentication", 1, doctor.Warning, "its authentication is off", func(t *testing.T, etcd *etcdtest.Cluster) {
			if _, err := etcd.Admin().UserAdd(t.Context(), "root", "secret"); err != nil {
				t.Fatal(err)
			}
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			etcd := etcdtest.Start(t, etcdtest.WithMembers(tt.members))
			a := newApp()
			if tt.plant != nil {
				tt.plant(t, etcd)
			} else {
				a.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
					if strings.HasSuffix(etcd.Member(2).Endpoint(), addr) {
						return nil, errors.New("connection refused")
					}
					return new(net.Dialer).DialContext(ctx, network, addr)
				}
			}
			look := func() []doctor.Finding {
				out, errs, _ := executed(t, a, at(etcd, "doctor", "-o", "json")...)
				var r doctor.Report
				if err := json.Unmarshal([]byte(out), &r); err != nil {
					t.Fatalf("%v: %s%s", err, out, errs)
				}
				return r.Findings
			}
			all := look()
			found := slices.ContainsFunc(all, func(f doctor.Finding) bool {
				return f.Kind == doctor.KindEtcd && f.Severity == tt.severity && strings.Contains(f.Problem, tt.says)
			})
			if found != (tt.severity != "") || tt.severity == "" && len(all) > 0 {
				t.Errorf("found %+v", all)
			}
			if tt.mend == nil {
				return
			}
			tt.mend(t, etcd)
			if all := look(); len(all) > 0 {
				t.Errorf("the remedy is none: %+v", all)
			}
		})
	}
}
