package vouch

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// TestTermGoesBack restarts both, which raises the term, and then wipes them and restores an early backup: etcd's term
// goes back with its data, and a lower term is one of the signs by which readers tell another history.
func TestTermGoesBack(t *testing.T) {
	works(t)
	r := newRestarted(t, 1)
	var saved *etcdtest.Backup
	var modelSaved *etcd.Backup
	r.restart("back up", func() (err error) { // etcd stops for it
		saved, err = r.real.Backup()
		return err
	}, func() {
		modelSaved = r.model.Backup()
		r.again()
	})
	for range 3 {
		r.restart("restart", r.real.Restart, r.again)
	}
	for _, c := range []struct {
		what  string
		real  func() error
		model func()
	}{
		{"restore", func() error { return r.real.RestoreBackup(saved) }, func() { r.model.Restore(modelSaved) }},
		{"wipe", r.real.Wipe, r.model.Wipe},
	} {
		before := r.pair.real.term()
		r.restart(c.what, c.real, c.model)
		real, model := r.pair.real.term(), r.pair.model.term()
		if real >= before || real != model {
			t.Errorf("%s: the term of etcd goes from %d to %d, the model's to %d", c.what, before, real, model)
		}
	}
}

// term is the term in which a side answers.
func (s *side) term() uint64 {
	s.t.Helper()
	resp, err := s.kv.Range(s.ctx, &pb.RangeRequest{Key: []byte("a")})
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.Header.RaftTerm
}
