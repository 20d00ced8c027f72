package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/porttest"
)

// soon bounds waits for immediate effects, also on busy machines.
const soon = 30 * time.Second

func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){"etcdrpc": main})
}

// tests runs all tests of this package without the user's environment. More
// tests run at once than there are processors, because tests mostly wait.
type tests struct{ *testing.M }

func (all tests) Run() int {
	flag.Parse()
	err := flag.Set("test.parallel", "8")
	new(settings).flags().VisitAll(func(f *pflag.Flag) {
		err = errors.Join(err, os.Unsetenv(variable(f)))
	})

	if err != nil {
		panic(err)
	}

	// Under nohup, this process ignores SIGHUP, and so would the processes that
	// tests start. A caught signal is not inherited as ignored.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)

	return all.M.Run()
}

// TestScripts runs the scripts in testdata/script, each on an etcd of its own.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			// By default, the race detector delays the end of each process by a
			// second.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			env.Values[worldKey{}] = &world{t: env.T().(testing.TB)}

			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"etcd": etcdCmd,
			"put":  putCmd,
			"del": func(ts *testscript.TestScript, _ bool, args []string) {
				deleteKey(in(ts).t, in(ts).etcd, args[0])
			},
			"value":  valueCmd,
			"listen": listenCmd,
			"exits":  exitsCmd,
			"follow": followCmd,
			// waits until the running command has written a text
			"seen": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(in(ts).follow.wait("(?m)" + args[0]))
			},
			// runs the last printed command line, in a shell for another etcd
			"paste": func(ts *testscript.TestScript, _ bool, _ []string) {
				w := in(ts)
				if w.paste == nil {
					w.paste = otherShell(w.t, ts.MkAbs("."))
				}

				fmt.Fprint(ts.Stdout(),
					w.paste(pasted.FindString(ts.ReadFile("stdout")+ts.ReadFile("stderr"))))
			},
			"cutetcd": func(ts *testscript.TestScript, _ bool, _ []string) { in(ts).etcd.Cut() },
			"alarm": func(ts *testscript.TestScript, _ bool, args []string) {
				etcd := pb.NewMaintenanceClient(in(ts).etcd.Admin().ActiveConnection())
				_, err := etcd.Alarm(context.Background(), &pb.AlarmRequest{
					Action: pb.AlarmRequest_ACTIVATE,
					Alarm:  pb.AlarmType(pb.AlarmType_value[args[0]]),
				})

				ts.Check(err)
			},
			"restore": func(ts *testscript.TestScript, _ bool, _ []string) {
				in(ts).etcd.Restore()
			},
			"compact": func(ts *testscript.TestScript, _ bool, _ []string) {
				_, err := in(ts).etcd.Compact(context.Background())
				ts.Check(err)
			},
		},
	})
}

type worldKey struct{}

// world is the state of one script.
type world struct {
	t      testing.TB
	etcd   *etcdtest.Cluster
	follow *follower
	paste  func(line string) string
}

func in(ts *testscript.TestScript) *world {
	return ts.Value(worldKey{}).(*world)
}

// etcdCmd starts an etcd: etcd [tls] [auth]. With auth, etcd has four users
// with the password secret. root may do everything. reader may read only
// acme/user/. read may also read the live config of acme/user, and its role has
// the name of a permission. owner may read and write acme/ and its live
// configs.
func etcdCmd(ts *testscript.TestScript, _ bool, args []string) {
	w := in(ts)

	var opts []etcdtest.Option
	for _, arg := range args {
		switch arg {
		case "tls":
			opts = append(opts, etcdtest.WithTLS())
		case "auth":
			opts = append(opts, etcdtest.WithAuth("secret",
				etcdtest.User{
					Name:        "reader",
					Password:    "secret",
					Permissions: []etcdtest.Permission{etcdtest.ReadOnly("acme/user/")},
				},
				etcdtest.User{
					Name:        "read",
					Password:    "secret",
					Permissions: []etcdtest.Permission{etcdtest.ReadOnly("acme/user/")},
				},
				etcdtest.User{Name: "owner", Password: "secret", Permissions: []etcdtest.Permission{
					etcdtest.ReadWrite("acme/"), etcdtest.ReadWrite("_grpc_config/acme/")}}))
		}
	}

	dir := ts.MkAbs("etcd-data")
	ts.Check(os.Mkdir(dir, 0o700))
	cluster, err := etcdtest.New(dir, opts...)
	ts.Check(err)
	ts.Defer(cluster.Close)

	if slices.Contains(args, "auth") {
		_, err := cluster.Admin().RoleGrantPermission(context.Background(), "read",
			"_grpc_config/acme/user", "", clientv3.PermissionType(clientv3.PermRead))
		ts.Check(err)
	}

	w.etcd = cluster
	ts.Setenv("ETCDCTL_ENDPOINTS", strings.Join(cluster.Endpoints(), ","))

	// Machines may be busy. Scripts set shorter timeouts where they need them.
	ts.Setenv("ETCDCTL_DIAL_TIMEOUT", "1m")
	ts.Setenv("ETCDCTL_COMMAND_TIMEOUT", "1m")
	ts.Setenv("CA", cluster.CAFile())
}

// putCmd puts a key: put [lease] KEY VALUE. With lease it is on a lease of 15 s
// that is renewed. @ in KEY is the decimal id of the lease, and VALUE may name
// a file.
func putCmd(ts *testscript.TestScript, _ bool, args []string) {
	w := in(ts)
	var lease clientv3.LeaseID
	if args[0] == "lease" {
		lease = renewed(w.t, w.etcd)
		args = args[1:]
	}

	key := strings.ReplaceAll(args[0], "@", strconv.FormatInt(int64(lease), 10))

	value := args[1]
	if text, err := os.ReadFile(ts.MkAbs(value)); err == nil {
		value = strings.TrimSpace(string(text))
	}

	putKey(w.t, w.etcd, key, value, lease)
}

// valueCmd removes these parts of a drain's entries from its output.
var (
	signature = regexp.MustCompile(`"at":"[^"]*","by":"[^"]*",`)
	nameAlone = regexp.MustCompile(`\{"instance":("[^"]*")\}`)
)

// valueCmd prints the value at a key.
func valueCmd(ts *testscript.TestScript, neg bool, args []string) {
	resp, err := in(ts).etcd.Admin().Get(context.Background(), args[0])
	ts.Check(err)

	if neg != (len(resp.Kvs) == 0) {
		ts.Fatalf("key %s has %d values, want a value: %v", args[0], len(resp.Kvs), !neg)
	}

	for _, kv := range resp.Kvs {
		unsigned := signature.ReplaceAll(kv.Value, nil)
		fmt.Fprintf(ts.Stdout(), "%s\n", nameAlone.ReplaceAll(unsigned, []byte("$1")))
	}
}

// listenCmd sets variables to addresses that accept connections or, with
// "listen no", refuse them.
func listenCmd(ts *testscript.TestScript, _ bool, names []string) {
	closed := names[0] == "no"
	if closed {
		names = names[1:]
	}

	for _, name := range names {
		if closed {
			addr, release, err := porttest.Refuse()
			ts.Check(err)
			ts.Setenv(name, addr)
			ts.Defer(release)

			continue
		}

		listener, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		ts.Setenv(name, listener.Addr().String())
		ts.Defer(func() { listener.Close() })
	}
}

// exitsCmd runs a command line in this process, which is faster than starting a
// process, and checks the exit code, as in "exits 2 etcdrpc ls -o yaml".
// Arguments may name files.
func exitsCmd(ts *testscript.TestScript, _ bool, args []string) {
	a := newApp()
	line := slices.Clone(args[2:])
	a.getenv = ts.Getenv

	for n, arg := range line {
		if info, err := os.Stat(ts.MkAbs(arg)); err == nil && info.Mode().IsRegular() {
			line[n] = ts.MkAbs(arg)
		}
	}

	code := a.execute(context.Background(), line, ts.Stdout(), ts.Stderr())
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%q: exit code %d, want %s", args[1:], code, args[0])
	}
}

// written is a buffer for concurrent writers. The zero value is empty.
type written struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed at the next write; nil if no call waits
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()

	if w.more != nil {
		close(w.more)
		w.more = nil
	}

	return w.text.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()

	return w.text.String()
}

// wait returns once the text matches pattern.
func (w *written) wait(pattern string) error {
	match := regexp.MustCompile(pattern)
	deadline := time.After(soon)
	for {
		w.mu.Lock()
		text := w.text.String()

		if w.more == nil {
			w.more = make(chan struct{})
		}

		more := w.more
		w.mu.Unlock()

		if match.MatchString(text) {
			return nil
		}

		select {
		case <-more:
		case <-deadline:
			return fmt.Errorf("%q was not seen in:\n%q", pattern, text)
		}
	}
}

// follower is a command line that runs until it is interrupted.
type follower struct {
	written
	stop context.CancelFunc
	code chan int
}

func startFollower(a *app, args []string) *follower {
	ctx, stop := context.WithCancel(context.Background())
	f := &follower{stop: stop, code: make(chan int, 1)}
	go func() { f.code <- a.execute(ctx, args, f, f) }()

	return f
}

func newApp() *app {
	return &app{
		stdin:             strings.NewReader(""),
		getenv:            os.Getenv,
		dial:              new(net.Dialer).DialContext,
		completionTimeout: soon,
	}
}

// followCmd starts a long-running command line of etcdrpc. "follow stop" ends
// it, and sets stdout to its output.
func followCmd(ts *testscript.TestScript, _ bool, args []string) {
	w := in(ts)

	if args[0] != "stop" {
		args = append(args, "--endpoints", ts.Getenv("ETCDCTL_ENDPOINTS"))
		w.follow = startFollower(newApp(), args)
		ts.Defer(w.follow.stop)

		return
	}

	w.follow.stop()
	code := ends(w.t, w.follow.code)
	fmt.Fprint(ts.Stdout(), w.follow.String())

	if code != 0 {
		ts.Fatalf("the command ends with exit code %d, want 0", code)
	}
}
