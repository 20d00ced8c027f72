package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// clockError is how far clocks may run apart before a time counts as to come.
const clockError = time.Minute

// readWithCandidates is readKey, which also reads the candidates that are there all the while, where the user may.
func (p *patient) readWithCandidates(ctx context.Context, s *store.Store, key string) error {
	before, denied := s.Candidates(ctx, key)
	if denied != nil && !errors.Is(denied, store.ErrDenied) {
		return denied
	}
	if err := p.readKey(ctx, s, key); err != nil || denied != nil || len(before) == 0 {
		return err
	}
	after, err := s.Candidates(ctx, key)
	p.candidates[key] = slices.DeleteFunc(after, func(c store.Candidate) bool { return !slices.Contains(before, c) })
	return err
}

// askRevision compares a token that a store has seen with etcd's revision.
func (p *patient) askRevision(ctx context.Context, s *store.Store, key string, token int64) error {
	revision, err := s.Revision(ctx, store.ConfigOf(key).From)
	if err != nil || token <= revision {
		return err
	}
	p.findings = append(p.findings, newFinding(KindToken, []string{p.full(key)},
		fmt.Sprintf("a store has seen the token %d, and etcd is at revision %d: it was wiped, or restored from a backup, and gives leaders lower tokens, or the same again", token, revision),
		"stop the servers of the service, and restore the backup anew: etcdutl snapshot restore FILE --bump-revision 1000000000 --mark-compacted (etcd 3.6), beside what else was given; where that cannot be, tell each store that lower tokens come"))
	return nil
}

// checkLeader finds a leader that no caller can reach.
func (p *patient) checkLeader(s *survey.Service) []Finding {
	all := p.candidates[s.Key]
	if len(all) == 0 || s.Closed || slices.ContainsFunc(s.Instances, func(i survey.Instance) bool { return i.Instance == all[0].Instance && !i.Leaving() }) {
		return nil
	}
	return []Finding{newFinding(KindLeader, []string{p.full(all[0].Key)},
		fmt.Sprintf("the first candidate for the leader of %s is %.80q, which has no entry that clients call, so every call for the leader waits and fails", s.Key, all[0].Instance),
		"if its server is dead, the candidate goes with its lease; if it lives, its status and log say what keeps its entry out")}
}

// checkStarted finds an instance that says that it has yet to start.
func (p *patient) checkStarted(i *survey.Instance) []Finding {
	at, ok := i.Started()
	ahead := at.Sub(p.now)
	if !ok || p.now.IsZero() || ahead < clockError {
		return nil
	}
	return []Finding{newFinding(KindStarted, []string{p.full(i.Entry.Key)},
		fmt.Sprintf("%s says that it will start in %s: under slow_start it gets next to no calls until then", i.Addr, output.Seconds(int64(ahead/time.Second))),
		"set the clock of its host, or of this one, and restart it")}
}
