package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// TestDoctor_Etcd has doctor find what is wrong with etcd itself.
func TestDoctor_Etcd(t *testing.T) {
	t.Parallel()
	type act = func(ctx context.Context, f *planted) error
	for _, tt := range []struct {
		name     string
		members  int
		severity doctor.Severity // "": nothing is wrong
		says     string
		plant    act
		mend     act // as the remedy says; nil: there is nothing to run
	}{
		{"nothing", 1, "", "", func(context.Context, *planted) error { return nil }, nil},
		{"no space", 1, doctor.Error, "the alarm NOSPACE", func(ctx context.Context, f *planted) error {
			if err := f.etcd.SetNoSpace(ctx, true); err != nil {
				return err
			}
			// Whoever looks at the rights of a server hears of it, too.
			if found, _ := f.doctor("acme/user", "--serve"); !strings.Contains(fmt.Sprint(found.Findings), "the alarm NOSPACE") {
				return fmt.Errorf("--serve finds %+v", found.Findings)
			}
			return nil
		}, func(ctx context.Context, f *planted) error {
			_, compacted := f.etcd.Compact(ctx)
			_, defragmented := f.etcd.Admin().Defragment(ctx, f.etcd.Endpoints()[0])
			_, disarmed := f.etcd.Admin().AlarmDisarm(ctx, &clientv3.AlarmMember{})
			return errors.Join(compacted, defragmented, disarmed)
		}},
		{"a member that is down", 3, doctor.Warning, "1 of 3 members of etcd accept no connection from here", func(_ context.Context, f *planted) error {
			f.route(strings.TrimPrefix(f.etcd.Member(2).Endpoint(), "http://"), "")
			return nil
		}, nil},
		{"an address that does not answer", 3, doctor.Warning, "which --endpoints names", func(_ context.Context, f *planted) error {
			f.etcd.Member(2).Cut()
			return nil
		}, nil},
		{"a learner that was never started", 1, doctor.Warning, "was added and never started, so it takes no other's place", func(ctx context.Context, f *planted) error {
			_, err := f.etcd.Admin().MemberAddAsLearner(ctx, []string{"http://127.0.0.1:1"})
			return err
		}, func(ctx context.Context, f *planted) error {
			all, err := f.etcd.Admin().MemberList(ctx)
			if err != nil {
				return err
			}
			added := slices.IndexFunc(all.Members, func(m *etcdserverpb.Member) bool { return m.Name == "" })
			_, err = f.etcd.Admin().MemberRemove(ctx, all.Members[added].ID)
			return err
		}},
		{"users without authentication", 1, doctor.Warning, "its authentication is off", func(ctx context.Context, f *planted) error {
			_, err := f.etcd.Admin().UserAdd(ctx, "root", "secret")
			return err
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, etcdtest.Start(t, etcdtest.WithMembers(tt.members)), new(yard), "")
			if err := tt.plant(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			found, _ := f.doctor()
			is := func(f doctor.Finding) bool {
				return f.Kind == doctor.KindEtcd && f.Severity == tt.severity && strings.Contains(f.Problem, tt.says)
			}
			if slices.ContainsFunc(found.Findings, is) != (tt.severity != "") || tt.severity == "" && len(found.Findings) > 0 {
				t.Errorf("found %+v", found.Findings)
			}
			if tt.mend == nil {
				return
			}
			if err := tt.mend(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			if found, _ := f.doctor(); len(found.Findings) > 0 {
				t.Errorf("the remedy is none: %+v", found.Findings)
			}
		})
	}
}
