package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

func TestPolicySet_EmptyStrictLane(t *testing.T) {
	etcd := etcdtest.Start(t)
	for n, version := range []string{"v1", "v1", "v2"} {
		putKey(t, etcd, fmt.Sprint("acme/user/", n), fmt.Sprintf(`{"Addr":"10.0.0.%d:1","Metadata":{"version":%q}}`, n, version))
	}
	beta := func(version, more string) string {
		return `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}]` + more + `,"route":[{"lane":"beta","match":{"version":"` + version + `"}`
	}
	const strict, lax = `,"strict":true}]}}]}`, `}]}}]}`
	for _, tt := range []struct{ name, before, after string }{
		{"the first live policy", "", beta("v3", "") + strict},
		{"a lane that had an instance", beta("v2", "") + strict, beta("v3", "") + strict},
		{"a lane that is drained becomes strict", beta("v2", `,"drain":["2"]`) + lax, beta("v2", `,"drain":["2"]`) + strict},
		{"a strict label in place of its route", beta("v2", "") + lax, `{"loadBalancingConfig":[{"etcd":{"route":[{"label":"lane"` + strict},
	} {
		_, _, _ = executed(t, newApp(), at(etcd, "policy", "rm", "acme/user")...)
		if tt.before != "" {
			if _, errs, code := executed(t, newApp(), at(etcd, "policy", "set", "acme/user", tt.before)...); code != exitFine {
				t.Fatal(errs)
			}
		}
		out, errs, code := executed(t, newApp(), at(etcd, "policy", "set", "acme/user", tt.after)...)
		if code == exitFine || !strings.Contains(errs, `no instance would be left: the lane "beta" is strict`) {
			t.Errorf("%s: policy set ended with %d: %s%s", tt.name, code, out, errs)
		}
	}
}

// TestPolicySet_OverBrokenText puts a live policy in force over one that clients refuse, though a lenient reader takes both for the same.
func TestPolicySet_OverBrokenText(t *testing.T) {
	etcd := etcdtest.Start(t)
	putKey(t, etcd, "acme/user/a", `{"Addr":"10.0.0.1:1"}`)
	const well = `{"loadBalancingConfig":[{"pick_first":{}}]}`
	for name, broken := range map[string]string{
		"a brace too many": well + "}",
	} {
		putKey(t, etcd, "_grpc_config/acme/user", broken)
		if out, _, code := executed(t, newApp(), at(etcd, "policy", "get", "acme/user")...); code == exitFine || out != broken+"\n" {
			t.Errorf("%s: policy get ended with %d: %s", name, code, out)
		}
		if out, errs, code := executed(t, newApp(), at(etcd, "policy", "set", "acme/user", well)...); code != exitFine {
			t.Errorf("%s: policy set ended with %d: %s%s", name, code, out, errs)
		}
		if out, errs, code := executed(t, newApp(), at(etcd, "policy", "get", "acme/user")...); code != exitFine {
			t.Errorf("%s: policy get ended with %d after policy set: %s%s", name, code, out, errs)
		}
	}
}
