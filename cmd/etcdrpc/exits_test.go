package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// fullDisk takes no byte.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestExits_FullDisk has each command fail whose output cannot be written.
func TestExits_FullDisk(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	putKey(t, etcd, "acme/user/10.0.0.7:9000", `{"Addr":"10.0.0.7:9000"}`, renewed(t, etcd))
	putKey(t, etcd, "_grpc_config/acme/user", `{"loadBalancingConfig":[{"etcd":{"preferZone":false}}]}`)
	for _, args := range [][]string{
		{"ls"},
		{"ls", "-o", "json"},
		{"policy", "get", "acme/user"},
		{"policy", "explain", "acme/user"},
		{"policy", "rm", "acme/user", "--dry-run"},
		{"doctor", "--no-dial"},
		{"sd", "--once"},
		{"watch", "acme/user"},
		{"version"},
		{"help", "ls"},
		{"completion", "bash"},
	} {
		var errs bytes.Buffer
		code := newApp().execute(t.Context(), append(args, "--endpoints", strings.Join(etcd.Endpoints(), ",")), fullDisk{}, &errs)
		if code != exitUnable || !strings.Contains(errs.String(), "write the output: no space left on device") {
			t.Errorf("%q ends with %d and says %q", args, code, errs.String())
		}
	}
	var errs bytes.Buffer
	code := newApp().execute(t.Context(), at(etcd, "policy", "rm", "acme/user"), fullDisk{}, &errs)
	left, err := etcd.Admin().Get(t.Context(), "_grpc_config/acme/user")
	if err != nil || left.Count != 0 || code != exitUnable || !strings.Contains(errs.String(), "the live policy is written, and in force: write the output") {
		t.Errorf("a write ends with %d and says %q", code, errs.String())
	}
}

// TestSettings refuses variables that etcdctl goes by and etcdrpc does not, and bounds the size of etcd's answers.
func TestSettings(t *testing.T) {
	for variable, refused := range map[string]string{
		"ETCDCTL_DISCOVERY_SRV=acme.internal":    "give the addresses by --endpoints",
		"ETCDCTL_INSECURE_SKIP_TLS_VERIFY=true":  "by --cacert",
		"ETCDCTL_INSECURE_TRANSPORT=false":       "https://",
		"ETCDCTL_AUTH_JWT_TOKEN=t":               "give --user",
		"ETCDCTL_INSECURE_SKIP_TLS_VERIFY=false": "",
		"ETCDCTL_WRITE_OUT=table":                "",
	} {
		name, value, _ := strings.Cut(variable, "=")
		err := fromEnvironment(new(settings).flags(), func(asked string) string { return map[string]string{name: value}[asked] })
		if refused == "" && err != nil || refused != "" && (err == nil || !strings.Contains(err.Error(), refused)) {
			t.Errorf("%s: %v", variable, err)
		}
	}
	s := settings{dialTimeout: soon, commandTimeout: soon}
	if cfg, err := s.config(t.Context()); err != nil || cfg.MaxCallRecvMsgSize != 8<<20 {
		t.Errorf("an answer of etcd may have %d bytes, %v", cfg.MaxCallRecvMsgSize, err)
	}
}
