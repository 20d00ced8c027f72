package versions

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

// etcd is a member of a cluster, in a process of its own.
type etcd struct {
	t          *testing.T
	name, dir  string
	addr, peer string // host:port
	cluster    string // name=url of each member
	cmd        *exec.Cmd
	exited     chan struct{} // closed when the process has ended
	log        bytes.Buffer  // not to be read before exited is closed
}

// startEtcd starts an etcd of one member, and waits until it answers. It skips
// the test without an etcd binary.
func startEtcd(t *testing.T) *etcd {
	t.Helper()

	e := newMember(t, "single")
	e.cluster = e.member()
	e.start()
	e.await()

	return e
}

// newMember returns a member that is not started. The caller sets its cluster.
func newMember(t *testing.T, name string) *etcd {
	t.Helper()

	if os.Getenv("TEST_ETCD") == "" {
		t.Skip("TEST_ETCD does not name an etcd; make versions builds some")
	}

	e := &etcd{
		t:    t,
		name: name,
		dir:  filepath.Join(t.TempDir(), name),
		addr: freeAddr(t),
		peer: freeAddr(t),
	}

	t.Cleanup(e.kill) // registered before cleanups that use etcd, so it runs last

	return e
}

// member returns the member in the form of --initial-cluster.
func (e *etcd) member() string {
	return e.name + "=http://" + e.peer
}

func (e *etcd) endpoint() string {
	return "http://" + e.addr
}

// start starts the process on its data directory.
func (e *etcd) start() {
	e.t.Helper()

	e.cmd = exec.Command(os.Getenv("TEST_ETCD"),
		"--name", e.name,
		"--data-dir", e.dir,
		"--listen-client-urls", e.endpoint(),
		"--advertise-client-urls", e.endpoint(),
		"--listen-peer-urls", "http://"+e.peer,
		"--initial-advertise-peer-urls", "http://"+e.peer,
		"--initial-cluster", e.cluster,
		"--heartbeat-interval", "50",
		"--election-timeout", "500")
	e.cmd.Stdout = &e.log
	e.cmd.Stderr = &e.log

	if err := e.cmd.Start(); err != nil {
		e.t.Fatalf("start etcd: %v", err)
	}

	cmd := e.cmd
	exited := make(chan struct{})
	e.exited = exited

	go func() {
		_ = cmd.Wait() // it fails once the process is killed
		close(exited)
	}()
}

// kill kills the process, and waits for its end.
func (e *etcd) kill() {
	if e.cmd == nil || e.cmd.Process == nil {
		return // never started
	}

	_ = e.cmd.Process.Kill() // the process may have ended
	<-e.exited
}

// await waits until etcd answers.
func (e *etcd) await() {
	e.t.Helper()

	client := e.client()
	for deadline := time.Now().Add(soon); ; {
		ctx, cancel := context.WithTimeout(e.t.Context(), time.Second)
		_, err := client.Get(ctx, "ready")
		cancel()

		if err == nil {
			return
		}

		select {
		case <-e.exited:
			e.t.Fatalf("etcd ended:\n%s", e.log.String())
		default:
		}

		if time.Now().After(deadline) {
			e.kill()
			e.t.Fatalf("etcd does not answer: %v\n%s", err, e.log.String())
		}
	}
}

// client returns a client that is closed with the test.
func (e *etcd) client(opts ...func(*clientv3.Config)) *clientv3.Client {
	e.t.Helper()

	config := clientv3.Config{
		Endpoints:            []string{e.endpoint()},
		DialTimeout:          soon,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
	}
	for _, opt := range opts {
		opt(&config)
	}

	client, err := clientv3.New(config)
	must.Succeed(e.t, err)
	e.t.Cleanup(func() { client.Close() })

	return client
}

// lastPort is the port that freeAddr tried last. All its ports are below the
// range of ephemeral ports, so that no other process takes the port of an etcd
// that is down.
var lastPort atomic.Int64

func init() {
	lastPort.Store(20_000 + int64(os.Getpid()%100)*100)
}

// freeAddr returns an unused loopback address, a different one each time.
func freeAddr(t *testing.T) string {
	t.Helper()

	for {
		addr := fmt.Sprint("127.0.0.1:", lastPort.Add(1))
		if lis, err := net.Listen("tcp", addr); err == nil {
			lis.Close()
			return addr
		}
	}
}

// startThree starts a cluster of three members, and waits until all of them
// answer.
func startThree(t *testing.T) []*etcd {
	t.Helper()

	var members []*etcd
	var cluster []string
	for n := range 3 {
		m := newMember(t, fmt.Sprint("member", n))
		members = append(members, m)
		cluster = append(cluster, m.member())
	}

	for _, m := range members {
		m.cluster = strings.Join(cluster, ",")
		m.start()
	}

	for _, m := range members {
		m.await()
	}

	return members
}
