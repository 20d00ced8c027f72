package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/porttest"
)

// TestCauses checks the causes of docs/observability.md. Certain causes are reported before the timeout of etcd.
func TestCauses(t *testing.T) {
	t.Parallel()
	etcd, secured := etcdtest.Start(t), etcdtest.Start(t, etcdtest.WithTLS())
	guarded := etcdtest.Start(t, etcdtest.WithAuth("secret", etcdtest.User{Name: "caller", Password: "p"}))
	hanging := etcdtest.Start(t)
	hanging.Pause()
	t.Cleanup(hanging.Resume)
	closed := porttest.Refusing(t)
	plain, https := bare(etcd), "https://"+bare(etcd)
	for name, tt := range map[string]struct {
		args []string
		want []string
	}{
		"nothing listens":         {[]string{"--endpoints", closed}, []string{"etcd at " + closed + ": ", "connect: connection refused", ": check --endpoints\n"}},
		"at any of two":           {[]string{"--endpoints", closed + ",127.0.0.1:1"}, []string{"connect: connection refused"}},
		"not for a user either":   {[]string{"--endpoints", closed, "--user", "caller:p"}, []string{"connect: connection refused"}},
		"etcd alone speaks TLS":   {[]string{"--endpoints", bare(secured)}, []string{"error reading server preface", "if it speaks TLS, give --cacert"}},
		"the command alone does":  {[]string{"--endpoints", https}, []string{"authentication handshake failed", "if it does not speak TLS, leave out --cacert"}},
		"so does a CA":            {[]string{"--endpoints", plain, "--cacert", newAuthority(t).file(t)}, []string{"authentication handshake failed", "if it does not speak TLS"}},
		"another CA":              {[]string{"--endpoints", bare(secured), "--cacert", newAuthority(t).file(t)}, []string{"certificate signed by unknown authority", "by --cacert"}},
		"a wrong password":        {[]string{"--endpoints", bare(guarded), "--user", "caller:q"}, []string{"authentication failed, invalid user ID or password", `etcd user "caller"`}},
		"a member that hangs":     {[]string{"--endpoints", bare(hanging), "--command-timeout", "200ms"}, []string{"not within 200ms", bare(hanging), "does not answer"}},
		"it hangs for a user too": {[]string{"--endpoints", bare(hanging), "--dial-timeout", "200ms", "--user", "a:b"}, []string{"not within 200ms", bare(hanging), "does not answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()
			for _, command := range [][]string{{"ls"}, {"doctor"}, {"watch", "acme/user"}, {"sd", "--once"}, {"policy", "get", "acme/user"}} {
				var out, errs bytes.Buffer
				code := newApp().execute(ctx, append(append(command, "--command-timeout", "1h", "--dial-timeout", "1h"), tt.args...), &out, &errs)
				for _, want := range tt.want {
					if code != exitUnable || !strings.Contains(errs.String(), want) {
						t.Errorf("%s ends with %d and says %s, want %q", command[0], code, errs.String(), want)
					}
				}
			}
		})
	}
}

// bare returns where a member listens.
func bare(etcd *etcdtest.Cluster) string {
	_, addr, _ := strings.Cut(etcd.Endpoints()[0], "://")
	return addr
}
