//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/porttest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// servant is the command that the tests run: a server that does as it is told on its standard input, and says on its
// standard output what happens to it. It does not outlive its input.
func servant() {
	s := &server{health: health.NewServer()}
	flag.StringVar(&s.addr, "listen", "", "")
	flag.BoolVar(&s.mute, "mute", false, "serve no health")
	flag.BoolVar(&s.stubborn, "stubborn", false, "ignore SIGTERM")
	flag.StringVar(&s.etcd, "etcd", "", "look there at a signal")
	flag.StringVar(&s.child, "child", "", "run this by a shell")
	flag.Parse()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	go s.hear(signals)
	fmt.Println("pid", os.Getpid(), strings.Join(flag.Args(), " "))
	if s.child != "" {
		out, err := exec.Command("sh", "-c", s.child).Output()
		fmt.Printf("child %s %v\n", strings.TrimSpace(string(out)), err)
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := s.do(strings.Fields(lines.Text())); err != nil {
			fmt.Println(err)
			os.Exit(99)
		}
	}
	os.Exit(98)
}

type server struct {
	addr, etcd, child string
	mute, stubborn    bool
	health            *health.Server
}

func (s *server) do(order []string) error {
	switch order[0] {
	case "accept": // connections, and no more
		_, err := net.Listen("tcp", s.addr)
		return err
	case "serve":
		lis, err := net.Listen("tcp", s.addr)
		if err != nil {
			return err
		}
		g := grpc.NewServer()
		if !s.mute {
			healthpb.RegisterHealthServer(g, s.health)
		}
		go func() {
			if err := g.Serve(lis); err != nil {
				fmt.Println(err)
			}
		}()
	case "sick":
		s.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	case "well":
		s.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	case "exit":
		code, err := strconv.Atoi(order[1])
		if err != nil {
			return err
		}
		os.Exit(code)
	}
	return nil
}

// hear says which signals come, and how many entries there are in etcd then.
func (s *server) hear(signals <-chan os.Signal) {
	for got := range signals {
		entries := -1
		if s.etcd != "" {
			client, err := clientv3.New(clientv3.Config{Endpoints: []string{s.etcd}})
			if err != nil {
				fmt.Println(err)
				os.Exit(97)
			}
			resp, err := client.Get(context.Background(), "acme/user/", clientv3.WithPrefix())
			if err != nil {
				fmt.Println(err)
				os.Exit(96)
			}
			entries = len(resp.Kvs)
		}
		fmt.Printf("signal %v with %d entries\n", got, entries)
		if got == syscall.SIGTERM && !s.stubborn || got == syscall.SIGINT {
			os.Exit(7)
		}
	}
}

// supervised is an etcdrpc run that runs a servant.
type supervised struct {
	written
	t    *testing.T
	etcd *etcdtest.Cluster
	cmd  *exec.Cmd
	addr string
	tell func(order string)
	code chan int
}

// runs runs a servant. The flags are those of etcdrpc run up to "--", then the servant's.
func runs(t *testing.T, etcd *etcdtest.Cluster, flags ...string) *supervised {
	t.Helper()
	return runsAs(t, "etcdrpc", etcd, flags...)
}

func runsAs(t *testing.T, name string, etcd *etcdtest.Cluster, flags ...string) *supervised {
	t.Helper()
	s, args := prepared(t, etcd, flags...)
	s.start(name, args)
	return s
}

// prepared returns what is to run a servant, and the arguments of etcdrpc for that.
func prepared(t *testing.T, etcd *etcdtest.Cluster, flags ...string) (s *supervised, args []string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	porttest.Hold(t, lis)
	lis.Close()
	s = &supervised{t: t, etcd: etcd, addr: lis.Addr().String(), code: make(chan int, 1)}
	args = []string{"run", "--key", "acme/user", "--address", s.addr, "--drain-delay", "10ms", "--endpoints", strings.Join(etcd.Endpoints(), ",")}
	own, others := flags, []string(nil)
	for i, flag := range flags {
		if flag == "--" {
			own, others = flags[:i], flags[i+1:]
			break
		}
	}
	args = append(append(args, own...), "--", "servant", "-listen", s.addr)
	return s, append(args, others...)
}

// start runs a command line until the test ends.
func (s *supervised) start(name string, args []string) {
	s.t.Helper()
	s.cmd = exec.Command(name, args...)
	s.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	s.cmd.Stdout, s.cmd.Stderr = s, s
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.tell = func(order string) { fmt.Fprintln(stdin, order) }
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.cmd.Wait() // an error is the exit code, too
		code := s.cmd.ProcessState.ExitCode()
		s.code <- code
	}()
	s.t.Cleanup(func() {
		stdin.Close()
		_ = s.cmd.Process.Kill()
		<-ended
		if s.t.Failed() {
			s.t.Log(s.String())
		}
	})
}

// says waits until the servant or etcdrpc has said something.
func (s *supervised) says(pattern string) {
	s.t.Helper()
	if err := s.wait("(?m)" + pattern); err != nil {
		s.t.Fatal(err)
	}
}

// found returns what a pattern with a group finds in what has been said.
func (s *supervised) found(pattern string) int {
	s.t.Helper()
	s.says(pattern)
	n, err := strconv.Atoi(regexp.MustCompile("(?m)" + pattern).FindStringSubmatch(s.String())[1])
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *supervised) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// exits waits for the end, and for no entry to be left.
func (s *supervised) exits(want ...int) {
	s.t.Helper()
	if got := ends(s.t, s.code); !slices.Contains(want, got) {
		s.t.Errorf("it ends with %d, not %d", got, want)
	}
}

// entries waits until etcd has a number of entries, and returns the last of them.
func (s *supervised) entries(want int) (last string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), soon)
	defer cancel()
	const prefix = "acme/user/"
	resp, err := s.etcd.Admin().Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		s.t.Fatal(err)
	}
	now := make(map[string]string)
	for _, kv := range resp.Kvs {
		now[string(kv.Key)], last = string(kv.Value), string(kv.Key)+" "+string(kv.Value)
	}
	changes := s.etcd.Admin().Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(resp.Header.Revision+1))
	for len(now) != want {
		change, ok := <-changes
		if !ok {
			s.t.Fatalf("there are %d entries, not %d", len(now), want)
		}
		for _, e := range change.Events {
			if delete(now, string(e.Kv.Key)); e.Type == clientv3.EventTypePut {
				now[string(e.Kv.Key)], last = string(e.Kv.Value), string(e.Kv.Key)+" "+string(e.Kv.Value)
			}
		}
	}
	return last
}

// serves has the servant serve, and waits until it is in etcd.
func (s *supervised) serves() {
	s.t.Helper()
	s.says(`^pid`)
	s.tell("serve")
	s.entries(1)
}

// TestRun follows a command from its start to its end: in etcd while it serves, and out of it before it hears of its end.
func TestRun(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	s := runs(t, etcd, "--instance", "one", "--version", "v2", "--zone", "eu-1a", "--weight", "5", "--metadata", "team=blue",
		"--", "-etcd", etcd.Endpoints()[0], "a", "--b=c d")
	s.says(`^pid \d+ a --b=c d$`)
	s.entries(0)
	s.tell("serve")
	entry := s.entries(1)
	for _, want := range []string{"acme/user/one ", `"Addr":"` + s.addr + `"`, `"version":"v2"`, `"zone":"eu-1a"`, `"weight":5`, `"team":"blue"`} {
		if !strings.Contains(entry, want) {
			t.Errorf("the entry is %s: want %s", entry, want)
		}
	}
	s.tell("sick")
	s.entries(0)
	s.says(`^etcdrpc: servant is not healthy, and out of etcd until it is: its health is NOT_SERVING$`)
	s.tell("well")
	s.entries(1)
	s.signal(syscall.SIGHUP)
	s.says(`^signal hangup with 1 entries$`)
	s.signal(syscall.SIGTERM)
	s.says(`^signal terminated with 0 entries$`)
	s.exits(7)
	s.entries(0)
}

// TestRun_Ends has commands end by themselves.
func TestRun_Ends(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	t.Run("by itself", func(t *testing.T) {
		s := runs(t, etcd)
		s.serves()
		s.tell("exit 3")
		s.exits(3)
		s.entries(0)
	})
	t.Run("killed", func(t *testing.T) {
		s := runs(t, etcd)
		s.serves()
		if err := syscall.Kill(s.found(`^pid (\d+)`), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		s.exits(137)
		s.entries(0)
		s.says(`^etcdrpc: servant was killed by SIGKILL$`)
	})
	t.Run("at once", func(t *testing.T) {
		s := runs(t, etcd)
		s.tell("exit 0")
		s.exits(0)
		s.says(`^etcdrpc: servant ended with 0 before it served$`)
	})
	t.Run("without SIGTERM", func(t *testing.T) {
		s := runs(t, etcd, "--stop-timeout", "50ms", "--", "-stubborn")
		s.serves()
		s.signal(syscall.SIGTERM)
		s.exits(137)
		s.says(`^signal terminated`)
		s.says(`^etcdrpc: servant does not end within 50ms, and is killed$`)
	})
	t.Run("before it serves", func(t *testing.T) {
		s := runs(t, etcd, "--drain-delay", "1h")
		s.says(`^pid`)
		s.signal(syscall.SIGINT)
		s.exits(7)
		s.says(`^signal interrupt`)
	})
	t.Run("too late", func(t *testing.T) {
		s := runs(t, etcd, "--start-timeout", "100ms")
		s.exits(7, 143) // the signal may come before servant listens for it, and then kills it
		s.says(`^etcdrpc: servant does not serve within 100ms, and is ended$`)
	})
	t.Run("by a second signal", func(t *testing.T) {
		s := runs(t, etcd, "--drain-delay", "1h", "--stop-timeout", "1h", "--", "-stubborn")
		s.serves()
		s.signal(syscall.SIGTERM)
		s.entries(0)
		s.signal(syscall.SIGTERM)
		s.says(`^signal terminated`)
		s.signal(syscall.SIGTERM)
		s.exits(137)
	})
}

// unread runs a servant while nobody reads what etcdrpc says, and hands over the pipe, which one can read from and write to.
func unread(t *testing.T) (s *supervised, pipe int) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := syscall.Open(name, syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s, args := prepared(t, etcdtest.Start(t))
	s.start("sh", append([]string{"-c", `exec etcdrpc "$@" 2>"$0"`, name}, args...))
	s.serves()
	return s, pipe
}

// supervises has the servant be out of etcd while it is sick, and hear of its end.
func (s *supervised) supervises() {
	s.t.Helper()
	s.tell("sick")
	s.entries(0)
	s.signal(syscall.SIGTERM)
	s.exits(7)
	s.entries(0)
}

// TestRun_LogReaderGone has whoever reads what etcdrpc says go away.
func TestRun_LogReaderGone(t *testing.T) {
	t.Parallel()
	s, pipe := unread(t)
	_ = syscall.Close(pipe)
	s.supervises()
}

// TestRun_LogReaderStalls has nobody read what etcdrpc says, and others have filled the pipe.
func TestRun_LogReaderStalls(t *testing.T) {
	t.Parallel()
	s, pipe := unread(t)
	defer func() { _ = syscall.Close(pipe) }()
	for err := error(nil); err == nil; {
		_, err = syscall.Write(pipe, []byte{'\n'})
	}
	s.supervises()
}

// TestRun_NotStarted has commands that cannot be started.
func TestRun_NotStarted(t *testing.T) {
	t.Parallel()
	plain := tempFile(t, "plain", []byte("no program"))
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte{0}, 0o700); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]int{"no-such-command": 127, "/no/such/command": 127, plain: 126, empty: 126} {
		_, errs, code := executed(t, newApp(), "run", "--key", "acme/user", "--address", ":9000", "--", command)
		if code != want || !strings.Contains(errs, fmt.Sprintf("etcdrpc: start %q: ", command)) {
			t.Errorf("%s: it ends with %d and says %s", command, code, errs)
		}
	}
}

// TestRun_Group has what a command leaves in its process group end with it.
func TestRun_Group(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	for name, tc := range map[string]struct{ child, timeout string }{
		"asked":  {"sleep 60 >/dev/null 2>&1 & echo $!", "1h"},
		"killed": {"trap '' TERM; sleep 60 >/dev/null 2>&1 & echo $!", "50ms"},
	} {
		t.Run(name, func(t *testing.T) {
			s := runs(t, etcd, "--stop-timeout", tc.timeout, "--", "-child", tc.child)
			left := s.found(`^child (\d+) <nil>$`)
			t.Cleanup(func() { _ = syscall.Kill(left, syscall.SIGKILL) })
			s.tell("exit 5")
			s.exits(5)
			gone(t, left)
		})
	}
}

// gone waits until there is no such process, not even one that nobody has reaped.
func gone(t *testing.T, pid int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		if ctx.Err() != nil {
			t.Fatalf("process %d is there", pid)
		}
		store.Pause(ctx, 10*time.Millisecond)
	}
}

// TestRun_Etcd has etcd away when the command starts, while it serves, and when it ends.
func TestRun_Etcd(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	etcd.Cut()
	s := runs(t, etcd)
	s.says(`^pid`)
	s.tell("serve")
	// What a connection that is cut meets depends on how far it has come.
	s.says(`^etcdrpc: .*msg="etcd registration failing" key=acme/user/\S+ error=.*(connection re(fused|set)|broken pipe|EOF)`)
	s.entries(0)
	etcd.Restore()
	s.entries(1)
	etcd.Cut()
	deleteKey(t, etcd, "acme/user/", clientv3.WithPrefix())
	etcd.Restore()
	s.entries(1)
	etcd.Cut()
	s.signal(syscall.SIGTERM)
	s.exits(7)
	s.says(`^etcdrpc: servant may be in etcd until its lease ends: `)
}

// TestRun_Password has etcd ask for a password, which costs it a request before anything else.
func TestRun_Password(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.WithAuth("secret", etcdtest.User{Name: "owner", Password: "secret", Permissions: []etcdtest.Permission{etcdtest.ReadWrite("acme/")}}))
	etcd.Cut()
	s := runs(t, etcd, "--user", "owner:secret", "--endpoints", "http://owner:secret@"+bare(etcd))
	s.says(`^pid`)
	s.tell("serve")
	s.says(`^etcdrpc: servant is not in etcd, which is tried again: connect to etcd: etcd at [^\s@]+: .*(connection re(fused|set)|broken pipe|EOF)`)
	etcd.Restore()
	s.entries(1)
	s.signal(syscall.SIGTERM)
	s.exits(7)
	s.entries(0)
}

// TestRun_Denied has etcd refuse the entry.
func TestRun_Denied(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.WithAuth("secret", etcdtest.User{Name: "reader", Password: "secret", Permissions: []etcdtest.Permission{etcdtest.ReadOnly("acme/")}}))
	s := runs(t, etcd, "--user", "reader:secret")
	s.says(`^pid`)
	s.tell("serve")
	s.says(`^etcdrpc: servant is not in etcd, which is tried again: .*permission denied`)
	s.tell("exit 4")
	s.exits(4)
}

// TestRun_Conflict has another process take the entry over.
func TestRun_Conflict(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	first := runs(t, etcd, "--instance", "same")
	first.serves()
	second := runs(t, etcd, "--instance", "same")
	second.serves()
	first.says(`^etcdrpc: .*msg="etcd registration conflict" key=acme/user/same`)
	second.tell("exit 0")
	second.exits(0)
	first.says(`(?s)conflict.*msg="etcd registration registered" key=acme/user/same`)
	first.signal(syscall.SIGTERM)
	first.exits(7)
}

// TestRun_Probes has commands that are asked in all ways.
func TestRun_Probes(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	t.Run("no health", func(t *testing.T) {
		s := runs(t, etcd, "--", "-mute")
		s.serves()
		s.says(`^etcdrpc: servant serves: it goes into etcd under acme/user, and counts as healthy while it answers: it has no grpc.health.v1.Health$`)
		s.tell("exit 0")
		s.exits(0)
	})
	t.Run("no health, which is wanted", func(t *testing.T) {
		s := runs(t, etcd, "--health", "", "--", "-mute")
		s.tell("serve")
		s.says(`^etcdrpc: servant does not serve yet: it has no grpc.health.v1.Health$`)
		s.tell("exit 0")
		s.exits(0)
	})
	t.Run("another service", func(t *testing.T) {
		s := runs(t, etcd, "--health", "acme.Other")
		s.tell("serve")
		s.says(`^etcdrpc: servant does not serve yet: its grpc.health.v1.Health does not know the service "acme.Other"$`)
		s.tell("exit 0")
		s.exits(0)
	})
	t.Run("TCP", func(t *testing.T) {
		s := runs(t, etcd, "--tcp")
		s.says(`^pid`)
		s.tell("accept")
		s.entries(1)
		s.tell("exit 0")
		s.exits(0)
		s.entries(0)
	})
	t.Run("hangs", func(t *testing.T) {
		night(t)
		s := runs(t, etcd)
		s.serves()
		pid := s.found(`^pid (\d+)`)
		for _, tc := range []struct {
			sig  syscall.Signal
			want int
		}{{syscall.SIGSTOP, 0}, {syscall.SIGCONT, 1}} {
			if err := syscall.Kill(pid, tc.sig); err != nil {
				t.Fatal(err)
			}
			s.entries(tc.want)
		}
		s.tell("exit 0")
		s.exits(0)
	})
}

// within runs a command in this process, which serves in its place at an address. The command ends with 6 when end is called.
func within(t *testing.T, etcd *etcdtest.Cluster, addr string, flags ...string) (s *supervised, end func()) {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "end")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	s = &supervised{t: t, etcd: etcd, addr: addr, code: make(chan int, 1)}
	args := append(at(etcd, "run", "--key", "acme/user", "--address", addr), flags...)
	args = append(args, "--", "sh", "-c", "read line <"+fifo+"; exit 6")
	go func() { s.code <- newApp().execute(t.Context(), args, s, s) }()
	return s, func() {
		t.Helper()
		if err := os.WriteFile(fifo, []byte("end\n"), 0); err != nil {
			t.Fatal(err)
		}
		s.exits(6)
	}
}

// TestRun_Ownership leaves nothing behind in a process that goes on.
func TestRun_Ownership(t *testing.T) {
	etcd := etcdtest.Start(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	var ignore goleak.Option
	for range 2 { // by the second time, etcd has started all that it needs
		ignore = goleak.IgnoreCurrent()
		s, end := within(t, etcd, lis.Addr().String(), "--tcp")
		s.entries(1)
		end()
		s.entries(0)
	}
	goleak.VerifyNone(t, ignore)
}

// TestRun_Terminal has ^C come to etcdrpc, and not to the command, which is given no terminal to read from.
func TestRun_Terminal(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	s := &supervised{t: t, etcd: etcd, code: make(chan int, 1)}
	cmd := exec.Command("etcdrpc", at(etcd, "run", "--key", "acme/user", "--address", lis.Addr().String(), "--tcp", "--drain-delay", "0", "--",
		"sh", "-c", "read line || echo no input; exec sleep 60")...)
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(s, terminal) // ends by an error, with whoever is at the other end
	}()
	go func() {
		_ = cmd.Wait() // an error is the exit code, too
		s.code <- cmd.ProcessState.ExitCode()
	}()
	s.entries(1)
	s.says(`^no input`)
	if _, err := terminal.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	s.exits(130)
	s.entries(0)
	<-read
}

// TestRun_Address has the host come from the environment, as servers have it.
func TestRun_Address(t *testing.T) {
	t.Setenv(advertiseEnv, "10.0.0.7")
	etcd := etcdtest.Start(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	_, port, err := net.SplitHostPort(lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, end := within(t, etcd, ":"+port, "--tcp", "--layout", "plain")
	if got, want := s.entries(1), fmt.Sprintf("acme/user/10.0.0.7:%[1]s 10.0.0.7:%[1]s", port); got != want {
		t.Errorf("the entry is %s, not %s", got, want)
	}
	end()
	s.entries(0)
}

// TestRun_KeyEtcd has the key be the name under which servers report whether they are in etcd.
func TestRun_KeyEtcd(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	s, end := within(t, etcd, lis.Addr().String(), "--tcp", "--namespace", "acme/user/", "--key", runtime.RegistrationHealth)
	s.entries(1)
	end()
	s.entries(0)
}

// TestRun_TLS asks a command as its callers do, who know it by its key.
func TestRun_TLS(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	ca := newAuthority(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(ca.issuer("acme.user", time.Now().Add(time.Hour)))))
	healthpb.RegisterHealthServer(g, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- g.Serve(lis) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	for _, tc := range []struct {
		flags   []string
		trouble string // "": none
	}{
		{[]string{"--service-cacert", ca.file(t)}, ""},
		{[]string{"--service-cacert", ca.file(t), "--authority", "other"}, "its certificate does not name other: --authority NAME"},
		{[]string{"--tls"}, "--service-cacert FILE names the CA of its certificate"},
		{nil, "if it speaks TLS, give --tls"},
	} {
		s, end := within(t, etcd, lis.Addr().String(), tc.flags...)
		if tc.trouble == "" {
			s.entries(1)
		} else {
			s.says(`^etcdrpc: sh does not serve yet: probe of \S+: .*` + tc.trouble)
		}
		end()
		s.entries(0)
	}
}

func init() { commands["servant"] = servant }
