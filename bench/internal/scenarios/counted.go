package scenarios

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// counted is an etcd in a process of its own, which tells what it carries.
type counted struct {
	proc     *proc
	endpoint string           // may be a proxy's
	client   *clientv3.Client // goes to etcd itself
}

func (b *bench) startCounted(dir string, proxied bool) (*counted, error) {
	p, err := b.spawn(params{Role: "etcd", Dir: dir, Proxied: proxied})
	if err != nil {
		return nil, err
	}
	line, err := p.line(patience)
	if err != nil {
		p.end()
		return nil, err
	}
	endpoint, direct, _ := strings.Cut(line, " ")
	client, err := newClient(direct)
	if err != nil {
		p.end()
		return nil, err
	}
	return &counted{p, endpoint, client}, nil
}

func (e *counted) close() {
	e.client.Close()
	e.proc.end()
}

func (e *counted) stats() (map[string]float64, error) {
	values := make(map[string]float64)
	return values, e.proc.ask(&values)
}

// atRest adds what etcd carries while nothing changes.
func (e *counted) atRest(ctx context.Context, values map[string]float64) error {
	before, err := e.stats()
	if err != nil {
		return err
	}
	if err := sleep(ctx, scaleMeasured); err != nil {
		return err
	}
	after, err := e.stats()
	if err != nil {
		return err
	}
	for name, metric := range map[string]string{"messages a second": "messages", "lists a second": "lists", "bytes out a second": "sent"} {
		values[name] = (after[metric] - before[metric]) / scaleMeasured.Seconds()
	}
	values["etcd CPU %"] = (after["cpu"] - before["cpu"]) / scaleMeasured.Seconds() * 100
	values["etcd RSS MB"] = after["rss"] / 1e6
	values["watches"], values["streams"] = after["watches"], after["streams"]
	return nil
}

// childEtcd runs etcd, and grpc-proxy before it if asked to, and answers each line with what it carries.
func childEtcd(c *child) (map[string]float64, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	etcd, err := startEtcd(c.Dir)
	if err != nil {
		return nil, err
	}
	defer etcd.close()
	direct := etcd.endpoints()[0]
	endpoint := direct
	if c.Proxied {
		if endpoint, err = startProxy(etcd.client); err != nil {
			return nil, err
		}
	}
	return nil, c.answer(endpoint+" "+direct, func() (any, error) { return carried() })
}

// startProxy serves what `etcd grpc-proxy` does, and returns its address.
func startProxy(client *clientv3.Client) (string, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	kv, _ := grpcproxy.NewKvProxy(client)
	watch, _ := grpcproxy.NewWatchProxy(client.Ctx(), zap.NewNop(), client)
	lease, _ := grpcproxy.NewLeaseProxy(client.Ctx(), client)
	s := grpc.NewServer()
	etcdserverpb.RegisterKVServer(s, kv)
	etcdserverpb.RegisterWatchServer(s, watch)
	etcdserverpb.RegisterLeaseServer(s, lease)
	go func() { _ = s.Serve(lis) }() // until the process ends
	return lis.Addr().String(), nil
}

// carried reads etcd's own metrics.
func carried() (map[string]float64, error) {
	now := used()
	rss, err := resident()
	if err != nil {
		return nil, err
	}
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		return nil, err
	}
	values := map[string]float64{"cpu": now.cpu.Seconds(), "at": float64(now.at.UnixMicro()) / 1e6, "rss": rss}
	for _, family := range families {
		for _, m := range family.Metric {
			method := ""
			for _, label := range m.Label {
				if label.GetName() == "grpc_method" {
					method = label.GetValue()
				}
			}
			switch {
			case family.GetName() == "etcd_debugging_mvcc_watcher_total":
				values["watches"] += m.GetGauge().GetValue()
			case family.GetName() == "etcd_debugging_mvcc_watch_stream_total":
				values["streams"] += m.GetGauge().GetValue()
			case family.GetName() == "etcd_network_client_grpc_sent_bytes_total":
				values["sent"] += m.GetCounter().GetValue()
			case family.GetName() == "grpc_server_msg_received_total":
				values["messages"] += m.GetCounter().GetValue()
			case family.GetName() == "grpc_server_started_total" && method == "Range":
				values["lists"] += m.GetCounter().GetValue()
			}
		}
	}
	return values, nil
}

// resident returns this process's memory in bytes, as the kernel counts it.
func resident() (float64, error) {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var size, pages float64
	if _, err := fmt.Sscan(string(raw), &size, &pages); err != nil {
		return 0, fmt.Errorf("/proc/self/statm: %w", err)
	}
	return pages * float64(os.Getpagesize()), nil
}
