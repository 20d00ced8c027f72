package main

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// awaitEntry waits until an entry under a key exists or, if there is false,
// none does. It returns the entry's etcd key and value.
func awaitEntry(t *testing.T, etcd *etcdtest.Cluster, key string, there bool) string {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()

	for {
		found, err := etcd.Admin().Get(ctx, key+"/", clientv3.WithPrefix())
		if err != nil {
			t.Fatalf("get the entries of %s: error %v, want none", key, err)
		}

		if (len(found.Kvs) > 0) == there {
			if !there {
				return ""
			}

			return string(found.Kvs[0].Key) + " " + string(found.Kvs[0].Value)
		}

		watching, end := context.WithCancel(ctx)
		<-etcd.Admin().Watch(watching, key+"/", clientv3.WithPrefix(),
			clientv3.WithRev(found.Header.Revision+1))
		end()
	}
}

// healthServer serves a health service with a status that the test sets.
func healthServer(t *testing.T, opts ...grpc.ServerOption) (set *health.Server, addr string) {
	t.Helper()

	set = health.NewServer()
	g := grpc.NewServer(opts...)
	healthpb.RegisterHealthServer(g, set)

	return set, serveUntilEnd(t, g)
}

// TestRegister_FollowsHealth runs register as a process: the entry is in etcd
// while the server serves, and a signal removes it before the process ends.
func TestRegister_FollowsHealth(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	set, addr := healthServer(t)
	set.SetServingStatus("acme.Users", healthpb.HealthCheckResponse_NOT_SERVING)

	var said written

	cmd := exec.Command("etcdrpc", at(etcd, "register", "acme/user",
		"--health", "acme.Users", "--instance", "a", "--version", "v2",
		"--metadata", "lane=blue", "--weight", "3", "--zone", "eu-1a",
		"--drain-delay", "1h")...)

	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", advertiseEnv+"="+addr)
	cmd.Stderr = &said
	must(t, cmd.Start())

	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // an error means that the process has ended

	must(t, said.wait(
		addr+` of "acme/user" does not serve, so it is not in etcd: its health is NOT_SERVING`))
	awaitEntry(t, etcd, "acme/user", false)

	set.SetServingStatus("acme.Users", healthpb.HealthCheckResponse_SERVING)

	got := awaitEntry(t, etcd, "acme/user", true)
	for _, want := range []string{
		"acme/user/a {", `"Addr":"` + addr + `"`, `"version":"v2"`,
		`"lane":"blue"`, `"weight":3`, `"zone":"eu-1a"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the entry is %s, want %s in it", got, want)
		}
	}

	set.SetServingStatus("acme.Users", healthpb.HealthCheckResponse_NOT_SERVING)
	awaitEntry(t, etcd, "acme/user", false)
	set.SetServingStatus("acme.Users", healthpb.HealthCheckResponse_SERVING)
	awaitEntry(t, etcd, "acme/user", true)

	must(t, cmd.Process.Signal(syscall.SIGTERM))
	awaitEntry(t, etcd, "acme/user", false)

	select {
	case err := <-exited:
		t.Errorf("register ended before the drain delay was over: %v: %s", err, said.String())
	default:
	}
}

// TestProblemOf checks which answers of a server mean that it serves.
func TestProblemOf(t *testing.T) {
	const serving, no = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	for _, tt := range []struct {
		health  healthpb.HealthCheckResponse_ServingStatus
		code    codes.Code
		message string
		want    [2]string // why the server does not serve: without --health, and with it
	}{
		{serving, codes.OK, "", [2]string{}},
		{no, codes.OK, "", [2]string{"its health is NOT_SERVING", "its health is NOT_SERVING"}},
		{0, codes.NotFound, "unknown service",
			[2]string{"NotFound: unknown service", "NotFound: unknown service"}},
		{0, codes.Unimplemented, "no", [2]string{"", "Unimplemented: no"}},
		{0, codes.Unauthenticated, "no", [2]string{"", "Unauthenticated: no"}},
		{0, codes.ResourceExhausted, "", [2]string{}},
	} {
		for n, want := range tt.want {
			err := problemOf(tt.health, status.New(tt.code, tt.message), n == 1)
			if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
				t.Errorf("problemOf(%v, %v %q, %v) = %v, want %q", tt.health, tt.code, tt.message,
					n == 1, err, want)
			}
		}
	}
}

// TestRegister_Servers checks that exactly the serving servers are in etcd.
func TestRegister_Servers(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	port, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { port.Close() })
	ca := newAuthority(t)
	_, secured := healthServer(t,
		grpc.Creds(credentials.NewTLS(ca.issuer("users.internal", time.Now().Add(time.Hour)))))
	_, healthy := healthServer(t)
	trust := []string{"--service-cacert", ca.file(t)}

	y := newYard(t)
	for _, tc := range []struct {
		name, addr string
		args       []string
		problem    string // "": the server serves
	}{
		{"health", healthy, nil, ""},
		{"a port", port.Addr().String(), []string{"--tcp"}, ""},
		{"TLS", secured, append(trust, "--authority", "users.internal"), ""},
		{"TLS by another name", secured, trust,
			"users.internal, not acme.*: --authority gives the name"},
		{"TLS of another CA", secured, []string{"--authority", "users.internal"},
			"--service-cacert names the CA"},
		{"plaintext to a server with TLS", secured, nil,
			"error reading server preface.*: if it speaks TLS, give --tls"},
		{"TLS to a server without", healthy, []string{"--tls"},
			"it does not speak TLS: leave out --tls"},
		{"a web server", y.servers["http2"], []string{"--service-cacert", y.caFile},
			"Unimplemented: "},
		{"another address than callers'", "10.0.0.7:9000", []string{"--probe", healthy}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()

			key := "acme/" + strings.NewReplacer(" ", "-", "'", "", ",", "").Replace(tc.name)
			args := at(etcd, "register", key, "--address", tc.addr, "--drain-delay", "0")
			f := startFollower(newApp(), append(args, tc.args...))
			defer f.stop()

			if tc.problem == "" {
				awaitEntry(t, etcd, key, true)
			} else if err := f.wait(
				"does not serve, so it is not in etcd: .*" + tc.problem); err != nil {
				t.Error(err)
			}

			f.stop()

			if code := ends(t, f.code); code != exitFine {
				t.Errorf("register ends with exit code %d, want %d: %s", code, exitFine, f)
			}

			awaitEntry(t, etcd, key, false)
		})
	}
}

// TestRegister_EtcdAway checks that a server is registered once etcd is
// reachable, and that register ends normally while etcd is away.
func TestRegister_EtcdAway(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	_, addr := healthServer(t)
	etcd.Cut()

	for _, key := range []string{"acme/cart", "acme/user"} {
		f := startFollower(newApp(),
			at(etcd, "register", key, "--address", addr, "--drain-delay", "1ms"))
		defer f.stop()

		must(t, f.wait(`of "`+key+`" serves`))

		if key == "acme/user" {
			etcd.Restore()
			awaitEntry(t, etcd, key, true)
			etcd.Cut() // the entry stays until its lease expires
		}

		f.stop()

		if code := ends(t, f.code); code != exitFine {
			t.Errorf("register %s ends with exit code %d, want %d: %s", key, code, exitFine, f)
		}
	}
}
