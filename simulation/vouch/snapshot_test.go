package vouch

import (
	"context"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// TestRestoreAsNew restores a snapshot as a new cluster, as "etcdutl snapshot restore" does with a token of its own: it has
// what was there, under other ids and in the first term again.
func TestRestoreAsNew(t *testing.T) {
	works(t)
	r := newRestarted(t, *first)
	r.restart("restart", r.real.Restart, r.again)
	r.draw()
	old := r.header(r.pair.real)
	file := r.snapshot()
	saved, now, compacted := r.model.Backup(), r.now, r.compacted
	r.draw()
	before := r.header(r.pair.model)
	began := time.Now()
	client := restoreSnapshot(t, file)
	r.model.RestoreAsNew(saved)
	r.apart += time.Since(began)
	r.pair.real = again(r.pair.real, newSide(t, "etcd", client))
	r.pair.model = again(r.pair.model, r.dial())
	r.now, r.compacted = now, compacted
	for _, h := range []struct{ old, new *pb.ResponseHeader }{{old, r.header(r.pair.real)}, {before, r.header(r.pair.model)}} {
		if h.new.ClusterId == h.old.ClusterId || h.new.MemberId == h.old.MemberId || h.new.RaftTerm != 2 || h.old.RaftTerm == 2 {
			t.Errorf("from %v to %v", h.old, h.new)
		}
	}
	r.inspect()
	r.goOn()
}

// header is that of an answer.
func (r *restarted) header(s *side) *pb.ResponseHeader {
	r.t.Helper()
	resp, err := s.kv.Range(s.ctx, &pb.RangeRequest{Key: []byte("a")})
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.Header
}

// snapshot saves what etcd has to a file.
func (r *restarted) snapshot() (file string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	stream, err := r.real.Admin().Snapshot(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	defer stream.Close()
	data, err := io.ReadAll(stream)
	if err != nil {
		r.t.Fatal(err)
	}
	file = filepath.Join(r.t.TempDir(), "snapshot.db")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		r.t.Fatal(err)
	}
	return file
}

// restoreSnapshot starts a new etcd from a snapshot and returns where clients find it.
func restoreSnapshot(t *testing.T, file string) (addr string) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.InitialClusterToken = "restored", filepath.Join(t.TempDir(), "data"), "another"
	cfg.TickMs, cfg.ElectionMs, cfg.UnsafeNoFsync = 10, 100, true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	anywhere, peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}, url.URL{Scheme: "http", Host: "127.0.0.1:1"} // it has no peers
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{anywhere}, []url.URL{peer}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{anywhere}, []url.URL{anywhere}
	cfg.InitialCluster = cfg.Name + "=" + peer.String()
	err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: file, Name: cfg.Name, OutputDataDir: cfg.Dir, PeerURLs: []string{peer.String()},
		InitialCluster: cfg.InitialCluster, InitialClusterToken: cfg.InitialClusterToken,
	})
	if err != nil {
		t.Fatal(err)
	}
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	select {
	case <-server.Server.ReadyNotify():
	case <-time.After(patience):
		t.Fatalf("etcd is not ready after %v", patience)
	}
	return server.Clients[0].Addr().String()
}
