package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"

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
	}{
		{"nothing", 1, "", "", func(*testing.T, *etcdtest.Cluster) {}},
		{"no space", 1, doctor.Error, "the alarm NOSPACE", func(t *testing.T, etcd *etcdtest.Cluster) {
			if err := etcd.SetNoSpace(t.Context(), true); err != nil {
				t.Fatal(err)
			}
		}},
		{"a member that is down", 3, doctor.Warning, "1 of 3 members of etcd accept no connection from here", nil},
		{"an address that does not answer", 3, doctor.Warning, "which --endpoints names", func(_ *testing.T, etcd *etcdtest.Cluster) {
			etcd.Member(2).Cut()
		}},
		{"a member that was never started", 1, doctor.Warning, "was added and never started", func(t *testing.T, etcd *etcdtest.Cluster) {
			if _, err := etcd.Admin().MemberAddAsLearner(t.Context(), []string{"http://127.0.0.1:1"}); err != nil {
				t.Fatal(err)
			}
		}},
		{"users without authentication", 1, doctor.Warning, "its authentication is off", func(t *testing.T, etcd *etcdtest.Cluster) {
			if _, err := etcd.Admin().UserAdd(t.Context(), "root", "secret"); err != nil {
				t.Fatal(err)
			}
		}},
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
			out, errs, _ := executed(t, a, at(etcd, "doctor", "-o", "json")...)
			var r doctor.Report
			if err := json.Unmarshal([]byte(out), &r); err != nil {
				t.Fatalf("%v: %s%s", err, out, errs)
			}
			found := false
			for _, f := range r.Findings {
				found = found || f.Kind == doctor.KindEtcd && f.Severity == tt.severity && strings.Contains(f.Problem, tt.says)
			}
			if found != (tt.severity != "") || tt.severity == "" && len(r.Findings) > 0 {
				t.Errorf("found %+v", r.Findings)
			}
		})
	}
}
