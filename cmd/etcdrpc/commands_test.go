package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/porttest"
)

// fullDisk rejects every write.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) {
	return 0, errors.New("no space left on device")
}

// TestExits_FullDisk checks that each command fails if its output cannot be
// written.
func TestExits_FullDisk(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	putKey(t, etcd, "acme/user/10.0.0.7:9000", `{"Addr":"10.0.0.7:9000"}`, renewed(t, etcd))
	putKey(t, etcd, "_grpc_config/acme/user",
		`{"loadBalancingConfig":[{"etcd":{"preferZone":false}}]}`)

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
		code := newApp().execute(t.Context(),
			append(args, "--endpoints", strings.Join(etcd.Endpoints(), ",")), fullDisk{}, &errs)
		if code != exitUnable ||
			!strings.Contains(errs.String(), "write the output: no space left on device") {
			t.Errorf("%q: exit code %d, message %q, want %d and the write error", args, code,
				errs.String(), exitUnable)
		}
	}

	var errs bytes.Buffer
	code := newApp().execute(t.Context(), at(etcd, "policy", "rm", "acme/user"), fullDisk{}, &errs)

	found, err := etcd.Admin().Get(t.Context(), "_grpc_config/acme/user")
	if err != nil ||
		found.Count != 0 ||
		code != exitUnable ||
		!strings.Contains(errs.String(), "the change is written: write the output") {
		t.Errorf("policy rm: exit code %d, message %q, want %d, and that the change is written",
			code, errs.String(), exitUnable)
	}
}

// TestSettings checks that the size of etcd's answers is bounded, and that
// spaces around endpoints are removed.
func TestSettings(t *testing.T) {
	s := settings{
		endpoints:      []string{"a:2379", " https://b:2379"},
		dialTimeout:    soon,
		commandTimeout: soon,
	}

	cfg, err := s.config(t.Context())
	if err != nil ||
		cfg.MaxCallRecvMsgSize != 8<<20 ||
		cfg.Endpoints[1] != "https://b:2379" ||
		cfg.TLS == nil {
		t.Errorf(
			"a response of %q may have %d bytes, TLS %v, error %v, want %d, no spaces and TLS",
			cfg.Endpoints, cfg.MaxCallRecvMsgSize, cfg.TLS, err, 8<<20)
	}
}

// TestDrain_ConcurrentChanges changes the live config concurrently until some
// attempts to write it have failed.
func TestDrain_ConcurrentChanges(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	putKey(t, etcd, "acme/user/a", "10.0.0.7:9000")
	putKey(t, etcd, "acme/user/b", "10.0.0.8:9000")
	drain := startFollower(newApp(), at(etcd, "drain", "acme/user", "a"))
	defer drain.stop()

	for etcd.Calls().Count(etcdtest.Put, "_grpc_config/") < 5 && len(drain.code) == 0 {
		putKey(t, etcd, "_grpc_config/acme/user", `{"loadBalancingConfig":[{"etcd":{}}]}`)
	}

	code := ends(t, drain.code)
	if code != exitFine || strings.Count(drain.String(), "drains a") != 1 {
		t.Errorf("drain: exit code %d, output %s, want %d and one outcome",
			code, drain.String(), exitFine)
	}
}

// TestCauses checks the causes in docs/observability.md. Commands must report
// certain causes before the request times out, and completion must not wait for
// an etcd that hangs.
func TestCauses(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	secured := etcdtest.Start(t, etcdtest.WithTLS())
	guarded := etcdtest.Start(t,
		etcdtest.WithAuth("secret", etcdtest.User{Name: "caller", Password: "p"}))
	users := etcdtest.Start(t, etcdtest.WithTLS(), etcdtest.WithAuth("secret"))
	_, cert, key := certificateFiles(t)
	hanging := etcdtest.Start(t)
	hanging.Pause()
	t.Cleanup(hanging.Resume)
	closed := porttest.Refusing(t)

	https := "https://" + bare(etcd)
	for name, tt := range map[string]struct {
		args []string
		want []string
	}{
		"nothing listens": {[]string{"--endpoints", closed}, []string{
			"etcd at " + closed + ": ", "connect: connection refused", ": check --endpoints\n"}},
		"nothing listens, user": {[]string{"--endpoints", closed, "--user", "caller:p"},
			[]string{"connect: connection refused"}},
		"only etcd speaks TLS": {[]string{"--endpoints", bare(secured)},
			[]string{"error reading server preface", "if it speaks TLS, give --cacert"}},
		"only etcdrpc speaks TLS": {[]string{"--endpoints", https}, []string{
			"authentication handshake failed", "if it does not speak TLS, leave out --cacert"}},
		"another CA": {
			[]string{"--endpoints", bare(secured), "--cacert", newAuthority(t).file(t)},
			[]string{"certificate signed by unknown authority", "by --cacert"}},
		"a wrong password": {[]string{"--endpoints", bare(guarded), "--user", "caller:q"},
			[]string{"authentication failed, invalid user ID or password", `etcd user "caller"`}},
		"an ignored certificate": {[]string{"--endpoints", bare(users), "--cacert", users.CAFile(),
			"--cert", cert, "--key", key}, []string{
			"denies permission to a client without --user"}},
		"a member that hangs": {
			[]string{"--endpoints", bare(hanging), "--command-timeout", "200ms"},
			[]string{"not within 200ms", bare(hanging), "does not answer"}},
		"a member hangs, user": {
			[]string{"--endpoints", bare(hanging), "--dial-timeout", "200ms", "--user", "a:b"},
			[]string{"not within 200ms", bare(hanging), "does not answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()

			for _, command := range [][]string{{"ls"}, {"doctor"}, {"watch", "acme/user"},
				{"sd", "--once"}, {"policy", "get", "acme/user"}} {
				var out, errs bytes.Buffer
				code := newApp().execute(ctx, append(append(command, "--command-timeout", "1h",
					"--dial-timeout", "1h"), tt.args...), &out, &errs)
				for _, want := range tt.want {
					if code != exitUnable || !strings.Contains(errs.String(), want) {
						t.Errorf("%s: exit code %d, message %s, want %d and %q", command[0], code,
							errs.String(), exitUnable, want)
					}
				}
			}
		})
	}

	t.Run("completion", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), soon/2) // shorter than the 20 s after which gRPC gives up
		defer cancel()

		a := newApp()
		a.completionTimeout = 100 * time.Millisecond

		code := a.execute(ctx, at(hanging, "__complete", "drain", "--user", "a:b", ""), io.Discard,
			io.Discard)
		if code != exitFine || ctx.Err() != nil {
			t.Errorf("exit code %d, %v, want %d in time", code, ctx.Err(), exitFine)
		}
	})
}

// bare returns the address of the first member, without a scheme.
func bare(etcd *etcdtest.Cluster) string {
	_, addr, _ := strings.Cut(etcd.Endpoints()[0], "://")
	return addr
}

// direct matches a call that writes to anything but a local variable, and a
// command line built without package output.
var direct = regexp.MustCompile(`etcdctl (get|put|del) |etcdrpc [a-z]+ [a-z ]*(" \+|%[sd])|\b(fmt\.Print|fmt\.Fprint\w*\([^&]|io\.(WriteString|Copy)|json\.NewEncoder\()|^\s*print(ln)?\(|\.(Write|Print\w*)\(`)

// TestOutput looks for output that bypasses internal/output. That package
// escapes texts from etcd, and makes the commands that users paste. The
// console's pages need no check, because their templates escape.
func TestOutput(t *testing.T) {
	files, err := filepath.Glob("*.go")
	must(t, err)

	below, err := filepath.Glob("internal/*/*.go")
	if err != nil || len(below) == 0 {
		t.Fatal(below, err)
	}

	for _, name := range append(files, below...) {
		place := filepath.Base(filepath.Dir(name))
		if place == "output" || place == "console" || strings.HasSuffix(name, "_test.go") {
			continue
		}

		text, err := os.ReadFile(name)
		must(t, err)

		for n, line := range strings.Split(string(text), "\n") {
			if direct.MatchString(line) {
				t.Errorf("%s:%d: use package output: %s", name, n+1, line)
			}
		}
	}
}
