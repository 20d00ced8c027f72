//go:build unix

package fleet

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
)

// row is an event with its bounds. Comments name the meaning of a zero value.
type row struct {
	name   string
	steps  string        // steps for cell.do; unless one is start, the fleet starts first
	short  bool          // go test -short runs it, too
	speed  time.Duration // of etcd, in percent; 0: it is not slowed down
	tokens string        // the life of the processes' tokens; "": they do not log in

	messages, logins, cpu, open float64 // the bounds of their ratios; 0: none
}

var rows = []row{
	{name: "start", steps: "start", messages: 1.35, short: true},
	{name: "start at a fifth of the speed", steps: "start", speed: 20, messages: 1.4, open: 1},
	{name: "start at a tenth of the speed", steps: "start", speed: 10, messages: 1.4, open: 1},
	{name: "rest", steps: "17s", messages: 1.25, cpu: 1.3},
	{name: "one change", steps: "change", messages: 1.25},
	{name: "rolling restart", steps: "roll change", messages: 1.5},
	{name: "down for 5 s", steps: "down 5s up change", messages: 2},
	{name: "down for 30 s", steps: "down 30s up change", messages: 2},
	{name: "hang for 10 s", steps: "halt 10s resume change", messages: 1.5},
	{name: "cut", steps: "cut mend change", messages: 2.2, short: true},
	{name: "cut over a compaction", steps: "cut 10s change 10s compact change mend", messages: 2.2},
	{name: "no space", steps: "fill roll-some 10s free change", messages: 1.5},
	{name: "start 100 ms away", steps: "far start", messages: 1.5},
	{name: "start behind grpc-proxy", steps: "proxy start", messages: 1.5},
	{
		name:   "start with users, tokens of 10 s",
		steps:  "start",
		tokens: "10s",
		logins: 1.3,
		cpu:    1.2,
	},
	{
		name:   "start with users, tokens of 300 s",
		steps:  "start",
		tokens: "300s",
		logins: 1.3,
		cpu:    1.2,
	},
	{
		name:   "etcd restarts with users, tokens of 10 s",
		steps:  "down up change",
		tokens: "10s",
		logins: 1.3,
		cpu:    1.2,
	},
	{
		name:   "etcd restarts with users, tokens of 300 s",
		steps:  "down up change",
		tokens: "300s",
		logins: 1.3,
		cpu:    1.2,
	},
}

// do does a step. A step that is neither below nor a time is an order to etcd's
// process.
func (c *cell) do(step string) {
	switch step {
	case "start":
		for _, p := range c.fleet {
			p.start()
		}

	case "change": // all keys have a new marker in the place of the one before
		c.changes++
		c.marker = fmt.Sprint("240.0.0.1:", c.changes)
		for _, key := range c.keys {
			c.order("put", key+"/marker", entryOf(c.marker))
		}

	case "roll":
		c.roll(1)
	case "roll-some":
		c.roll(10)
	case "halt":
		kit.Must(c.t, c.etcd.Signal(syscall.SIGSTOP))
	case "resume":
		kit.Must(c.t, c.etcd.Signal(syscall.SIGCONT))

	case "far": // new connections are distant
		c.config.DialOptions = []grpc.DialOption{grpc.WithContextDialer(dialFar)}

	case "proxy":
		c.useProxy()
	default:
		d, err := time.ParseDuration(step)
		if err != nil {
			c.order(step)
		}

		time.Sleep(d)
	}
}

// roll restarts every each-th process, one after the other.
func (c *cell) roll(each int) {
	for i, p := range c.fleet {
		if i%each == 0 {
			p.stop()
			c.stopped++
			p.start()
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// throttle slows etcd down until the end of the test. etcd runs for speed
// percent of each tenth of a second.
func (c *cell) throttle() {
	kit.Run(c.t, func(ctx context.Context) error {
		for ; ctx.Err() == nil; kit.Pause(ctx, c.row.speed*time.Millisecond) {
			_ = c.etcd.Signal(syscall.SIGSTOP) // fails if etcd has ended
			kit.Pause(ctx, (100-c.row.speed)*time.Millisecond)
			_ = c.etcd.Signal(syscall.SIGCONT)
		}

		return nil
	})
}

// distant is a connection that delays what it reads by 100 ms. Data that
// arrives during the delay of earlier data is delayed by up to 200 ms.
type distant struct{ net.Conn }

func dialFar(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	return distant{conn}, err
}

func (c distant) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	time.Sleep(100 * time.Millisecond)

	return n, err
}

// useProxy puts etcd's grpc-proxy, in the process of the test, between the
// processes and etcd.
func (c *cell) useProxy() {
	upstream, err := clientv3.New(c.config)
	kit.Must(c.t, err)
	c.t.Cleanup(func() { upstream.Close() })

	kv, _ := grpcproxy.NewKvProxy(upstream)
	watch, _ := grpcproxy.NewWatchProxy(c.t.Context(), c.config.Logger, upstream)
	lease, _ := grpcproxy.NewLeaseProxy(c.t.Context(), upstream)

	server := grpc.NewServer()
	pb.RegisterKVServer(server, kv)
	pb.RegisterWatchServer(server, watch)
	pb.RegisterLeaseServer(server, lease)

	lis := kit.Listen(c.t)
	kit.Serve(c.t, server, lis)
	c.config.Endpoints = []string{lis.Addr().String()}
}

// figures are what a side costs, by column.
type figures map[string]float64

// columns are the figures in the order of the printed table. Opened and open
// are streams, lost are entries.
const columns = "messages | Authenticate | CPU ms | cancelled | opened | open | lost | last s"

// judge fails the test for each figure of our side that exceeds its bound. It
// returns the row of the printed table.
func (r row) judge(t *testing.T, ours, plain figures) string {
	bounds := figures{
		"messages":     r.messages,
		"Authenticate": r.logins,
		"CPU ms":       r.cpu,
		"open":         r.open,
		"lost":         1,
	}

	line := "| " + r.name
	for _, column := range strings.Split(columns, " | ") {
		a := ours[column]
		b := plain[column]
		line += fmt.Sprintf(" | %.4g / %.4g", a, b)

		if b > 0 {
			line += fmt.Sprintf(" = %.2f", a/b)
		}

		bound := bounds[column]
		if testing.Short() { // fewer ranges share a request while other tests run
			bound *= 1.2
		}

		if bound > 0 && a > bound*b {
			t.Errorf("%s: %.0f, plain code %.0f: the ratio is %.2f, want at most %.2f", column, a,
				b, a/b, bound)
		}
	}

	return line + " |\n"
}
