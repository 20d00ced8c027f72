//go:build unix

package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
)

// Environment variables of a process that runs etcd.
const (
	dirEnv    = "FLEET_ETCD_DIR"
	tokensEnv = "FLEET_ETCD_TOKENS" // the life of a token; "": nobody logs in
)

// startEtcd starts the process of etcd, which ends with the test.
func (c *cell) startEtcd() {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), dirEnv+"="+c.t.TempDir(), tokensEnv+"="+c.row.tokens)
	cmd.Stderr = os.Stderr

	// in a process group of its own, so that the system resumes a stopped etcd
	// if the test dies
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	c.orders, err = cmd.StdinPipe()
	kit.Must(c.t, err)
	answers, err := cmd.StdoutPipe()
	kit.Must(c.t, err)
	kit.Must(c.t, cmd.Start())

	c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says that the process was killed
	})

	c.etcd = cmd.Process
	c.answers = json.NewDecoder(answers)
	kit.Must(c.t, c.answers.Decode(&c.config))
	c.config.Logger = zap.NewNop()
}

// order makes etcd's process carry out an order, and returns the figures
// afterwards. The figure of all messages leaves out the messages that orders
// cause. The figures of single methods include them.
func (c *cell) order(words ...string) (now figures) {
	_, err := fmt.Fprintln(c.orders, strings.Join(words, " "))
	kit.Must(c.t, err)
	kit.Must(c.t, c.answers.Decode(&now))
	c.own += map[string]float64{"entries": 1, "put": 2, "compact": 2}[words[0]]
	now["messages"] -= c.own

	return now
}

// runEtcd runs etcd in this process, and obeys the orders from standard input
// until that ends.
func runEtcd(dir string) error {
	opts := []etcdtest.Option{etcdtest.WithConfig(func(cfg *embed.Config) {
		usual := embed.NewConfig() // etcdtest makes logins cheap, and etcd busy at rest
		cfg.TickMs = usual.TickMs
		cfg.ElectionMs = usual.ElectionMs
		cfg.BcryptCost = usual.BcryptCost
	})}

	tokens, err := time.ParseDuration(os.Getenv(tokensEnv))
	if err == nil {
		opts = append(opts, etcdtest.WithTokenTTL(tokens), etcdtest.WithAuth("secret"))
	}

	cluster, err := etcdtest.New(dir, opts...)
	if err != nil {
		return err
	}

	answers := json.NewEncoder(os.Stdout)
	err = answers.Encode(cluster.Config()) //nolint:staticcheck // TLS, which has functions, is nil
	for lines := bufio.NewScanner(os.Stdin); err == nil && lines.Scan(); {
		now := make(figures)
		err = errors.Join(obey(cluster, strings.Fields(lines.Text()), now), answers.Encode(now))
	}

	return err
}

// obey carries out an order, and adds the figures that the order requests to
// now.
func obey(cluster *etcdtest.Cluster, order []string, now figures) (err error) {
	ctx := context.Background()
	admin := cluster.Admin()

	switch order[0] {
	case "cut":
		cluster.Cut()
	case "mend":
		cluster.Restore()
	case "down":
		cluster.Stop()
	case "up":
		err = cluster.Restart()
		admin.ActiveConnection().ResetConnectBackoff()
	case "fill", "free":
		err = cluster.SetNoSpace(ctx, order[0] == "fill")
	case "compact":
		_, err = cluster.Compact(ctx)

	case "put":
		for done := false; !done; done = err == nil { // a busy etcd may lose the connection
			_, _ = admin.Get(ctx, prefix) // repeated until etcd is reachable
			_, err = admin.Put(ctx, order[1], order[2])
		}

	case "entries":
		all, err := admin.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return err
		}

		now["entries"] = float64(all.Count)

	case "count":
		now.gather()
	default:
		err = fmt.Errorf("unknown order %q", order[0])
	}

	return err
}

// gather adds what etcd's own metrics say about the time since its process
// began.
func (now figures) gather() {
	families, _ := prometheus.DefaultGatherer.Gather() // a metric with an error is not among them
	for _, family := range families {
		for _, m := range family.Metric {
			n := m.GetCounter().GetValue()
			if n == 0 {
				continue
			}

			labels := fmt.Sprint(m.Label)
			stream := !strings.Contains(labels, "unary")

			switch family.GetName() {
			case "grpc_server_msg_received_total":
				now["messages"] += n
				now[m.Label[0].GetValue()] += n // the first label is the method
			case "grpc_server_started_total":
				if stream {
					now["opened"] += n
					now["open"] += n
				}

			case "grpc_server_handled_total":
				if stream {
					now["open"] -= n
				} else if strings.Contains(labels, "Canceled") ||
					strings.Contains(labels, "DeadlineExceeded") {
					now["cancelled"] += n
				}

			case "process_cpu_seconds_total":
				now["CPU ms"] = 1000 * n
			case "etcd_mvcc_delete_total":
				now["lost"] = n
			}
		}
	}
}
