package vouch

import (
	"math/rand/v2"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// TestRestart restarts etcd and the model on what they have.
func TestRestart(t *testing.T) {
	works(t)
	for seed := range seeds(30) {
		restart(newRestarted(t, seed))
	}
}

func restart(r *restarted) {
	r.draw()
	r.restart("restart", r.real.Restart, r.again)
	r.inspect()
	r.goOn()
}

// TestRestore restores a backup, twice. Its leases live on.
func TestRestore(t *testing.T) {
	works(t)
	for seed := range seeds(30) {
		restore(newRestarted(t, seed))
	}
}

func restore(r *restarted) {
	r.draw()
	var saved *etcdtest.Backup
	r.restart("back up", func() (err error) { // etcd stops for it
		saved, err = r.real.Backup()
		return err
	}, r.again)
	modelSaved, now, compacted := r.model.Backup(), r.now, r.compacted
	for range 2 {
		r.draw()
		r.restart("restore", func() error { return r.real.RestoreBackup(saved) }, func() { r.model.Restore(modelSaved) })
		r.now, r.compacted = now, compacted
		r.inspect()
	}
	r.goOn()
}

// TestWipe restarts both with nothing.
func TestWipe(t *testing.T) {
	works(t)
	for seed := range seeds(30) {
		wipe(newRestarted(t, seed))
	}
}

func wipe(r *restarted) {
	r.draw()
	r.restart("wipe", r.real.Wipe, r.model.Wipe)
	r.now, r.compacted = 1, 0
	r.forgetLeases()
	r.inspect()
	r.goOn()
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
	r.apart += time.Since(began)
	for _, st := range open {
		if err := st.end(); status.Code(err) != codes.Unavailable {
			r.t.Errorf("%s: a watch ends with %v at a %s", st.side.name, err, what)
		}
	}
	r.pair.real = again(r.pair.real, dialReal(r.t, r.real, 0))
	r.pair.model = again(r.pair.model, r.dial())
}

// again restarts the model.
func (r *restarted) again() {
	r.model.Stop(0)
	r.dial = serveModel(r.t, r.model, 0)
}

// again is a side that was connected to anew.
func again(old, connected *side) *side {
	connected.leases = old.leases
	return connected
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
