package conformance

import (
	"context"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// TestRestarts restarts etcd and the model on what they have, on what they had, or on nothing.
func TestRestarts(t *testing.T) {
	long(t)
	for _, test := range []struct {
		name string
		play func(*restarted)
	}{
		{"restart", func(r *restarted) {
			r.draw()
			r.restart("restart", r.real.Restart, r.again)
			r.inspect()
		}},
		{"restore", func(r *restarted) { // twice; the leases live on
			r.draw()
			restore := r.backUp()
			for range 2 {
				r.draw()
				restore()
				r.inspect()
			}
		}},
		{"wipe", func(r *restarted) {
			r.draw()
			r.wipe()
			r.inspect()
		}},
		// A lower term is one of the signs by which readers tell another history.
		{"the term goes back", func(r *restarted) {
			restore := r.backUp()
			for range 3 {
				r.restart("restart", r.real.Restart, r.again)
			}
			for _, back := range []func(){restore, r.wipe} {
				before := r.pair.real.header().RaftTerm
				back()
				real, model := r.pair.real.header().RaftTerm, r.pair.model.header().RaftTerm
				if real >= before || real != model {
					r.t.Errorf("the term of etcd goes from %d to %d, the model's to %d", before, real, model)
				}
			}
		}},
		// As "etcdutl snapshot restore" does with a token of its own: other ids, and the first term again.
		{"restore as new", func(r *restarted) {
			r.restart("restart", r.real.Restart, r.again)
			r.draw()
			old := []*pb.ResponseHeader{r.pair.real.header(), r.pair.model.header()}
			r.restoreAsNew(0)
			for i, s := range r.sides() {
				if h := s.header(); h.ClusterId == old[i].ClusterId || h.MemberId == old[i].MemberId || h.RaftTerm != 2 || old[i].RaftTerm == 2 {
					r.t.Errorf("%s: from %v to %v", s.name, old[i], h)
				}
			}
			r.inspect()
		}},
		// ... and as it does with --bump-revision and --mark-compacted.
		{"restore as new, bumped", func(r *restarted) {
			r.draw()
			r.restoreAsNew(1000)
			r.inspect()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for seed := range seeds(30) {
				r := newRestarted(t, seed)
				test.play(r)
				r.goOn()
			}
		})
	}
}

// restarted is a pair whose members restart.
type restarted struct {
	*pair
	d     *drawer
	real  *etcdtest.Cluster
	model *etcd.Cluster
	dial  func() *side // the model
}

func newRestarted(t *testing.T, seed uint64) *restarted {
	r := &restarted{real: startEtcd(t), model: etcd.New(1)}
	t.Cleanup(r.model.Close)
	r.dial = serveModel(t, r.model, 0)
	r.pair = newPair(t, dialReal(t, r.real, 0), r.dial())
	r.seed = seed
	r.d = &drawer{Rand: rand.New(rand.NewPCG(r.seed, 2)), p: r.pair}
	return r
}

// draw asks both some requests, and leaves keys, leases and a history.
func (r *restarted) draw() {
	r.t.Helper()
	for range 100 {
		r.call(r.d.request())
	}
	r.call(&pb.CompactionRequest{Revision: r.now - 20})
	for range 50 {
		r.call(r.d.request())
	}
}

// goOn plays a script, with watches, to what there is.
func (r *restarted) goOn() {
	r.t.Helper()
	history := r.history
	r.play(r.seed, *steps)
	r.history = append(history, r.history...)
}

// restart has both restart, and checks that this ends what clients have open in both.
func (r *restarted) restart(what string, real func() error, model func()) {
	r.t.Helper()
	r.note(what)
	open := []*stream{r.pair.real.watchAll(), r.pair.model.watchAll()}
	began := time.Now()
	if err := real(); err != nil {
		r.t.Fatal(err)
	}
	model()
	for _, st := range open {
		if err := st.end(); status.Code(err) != codes.Unavailable {
			r.t.Errorf("%s: a watch ends with %v at a %s", st.side.name, err, what)
		}
	}
	r.reconnect(began, dialReal(r.t, r.real, 0))
}

// reconnect takes up new connections to both, which have begun to restart at a time.
func (r *restarted) reconnect(began time.Time, real *side) {
	r.apart += time.Since(began)
	model := r.dial()
	real.leases, model.leases = r.pair.real.leases, r.pair.model.leases
	r.pair.real, r.pair.model = real, model
}

// again restarts the model.
func (r *restarted) again() {
	r.model.Stop(0)
	r.dial = serveModel(r.t, r.model, 0)
}

// backUp backs both up, and returns what restores them.
func (r *restarted) backUp() (restore func()) {
	r.t.Helper()
	var saved *etcdtest.Backup
	var modelSaved *etcd.Backup
	r.restart("back up", func() (err error) { // etcd stops for it
		saved, err = r.real.Backup()
		return err
	}, func() {
		modelSaved = r.model.Backup()
		r.again()
	})
	now, compacted := r.now, r.compacted
	return func() {
		r.restart("restore", func() error { return r.real.RestoreBackup(saved) }, func() { r.model.Restore(modelSaved) })
		r.now, r.compacted = now, compacted
	}
}

// wipe restarts both with nothing.
func (r *restarted) wipe() {
	r.restart("wipe", r.real.Wipe, r.model.Wipe)
	r.now, r.compacted = 1, 0
	r.forgetLeases()
}

// restoreAsNew restores a snapshot of both as a new cluster, with revisions that go on from so many later.
func (r *restarted) restoreAsNew(bump int64) {
	r.t.Helper()
	file := r.snapshot()
	saved, now, compacted := r.model.Backup(), r.now, r.compacted
	r.draw()
	began := time.Now()
	addr := startFrom(r.t, file, bump)
	if bump == 0 {
		r.model.RestoreAsNew(saved)
	} else {
		r.model.RestoreBumped(saved, bump)
		now += bump
		compacted = now
	}
	r.reconnect(began, newSide(r.t, "etcd", addr))
	r.now, r.compacted = now, compacted
}

// inspect compares all that can be read: each revision, each lease.
func (r *restarted) inspect() {
	r.t.Helper()
	for revision := max(r.compacted-1, 0); revision <= r.now+1; revision++ {
		r.call(&pb.RangeRequest{Key: []byte("\x00"), RangeEnd: []byte("\x00"), Revision: revision})
	}
	leases := r.must(&pb.LeaseLeasesRequest{}).(*pb.LeaseLeasesResponse).Leases
	for _, lease := range leases {
		r.must(&pb.LeaseTimeToLiveRequest{ID: lease.ID, Keys: true})
	}
	r.call(&pb.CompactionRequest{Revision: r.compacted})
}

// header is that of an answer, as it came.
func (s *side) header() *pb.ResponseHeader {
	s.t.Helper()
	resp, err := pb.NewKVClient(s.conn).Range(s.ctx, &pb.RangeRequest{Key: []byte("a")})
	if err != nil {
		s.t.Fatal(err)
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

// startFrom starts a new etcd from a snapshot and returns where clients find it.
func startFrom(t testing.TB, file string, bump int64) (addr string) {
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
		RevisionBump: uint64(bump), MarkCompacted: bump > 0,
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
