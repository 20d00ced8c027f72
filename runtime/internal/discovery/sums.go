package discovery

import (
	"maps"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// sums are what the backends of a set add up to, kept up to date by what changes: a pass over thousands of backends
// reads memory that no cache holds. The zero value is those of no backends.
type sums struct {
	weights uint64         // for ring-hash, before they are scaled
	naming  map[string]int // how many name their methods by a text
	twins   int            // how many have the instance id of the one before
	twin    string         // the first such id
	now     *attr.Summary  // nil: to be made anew
}

// replace has one set follow another.
func (s *sums) replace(old, next []*Backend) {
	before, behind := alike(old, next)
	for _, b := range next[before : len(next)-behind] {
		s.weights += attr.RingWeight(b.grpc)
		s.add(attr.Methods(b.grpc), 1)
	}
	for _, b := range old[before : len(old)-behind] {
		s.weights -= attr.RingWeight(b.grpc)
		s.add(attr.Methods(b.grpc), -1)
	}
	was, is := twins(old, before, len(old)-behind), twins(next, before, len(next)-behind)
	if was == 0 && is == 0 {
		return
	}
	s.now = nil
	s.twins += is - was
	s.twin = ""
	for i := 1; i < len(next) && s.twin == "" && s.twins > 0; i++ {
		if twins(next, i, i) > 0 {
			s.twin = next[i].Endpoint.Instance
		}
	}
}

// twins returns how many of those from..to of a set, and the one behind, have the instance id of the one before.
func twins(set []*Backend, from, to int) (n int) {
	for i := max(from, 1); i < min(to+1, len(set)); i++ {
		if set[i].Endpoint.Instance == set[i-1].Endpoint.Instance {
			n++
		}
	}
	return n
}

// add adds n to the number of those who name their methods by a text.
func (s *sums) add(methods string, n int) {
	if s.naming == nil {
		s.naming = make(map[string]int)
	}
	before := s.naming[methods]
	if s.naming[methods] = before + n; before+n == 0 {
		delete(s.naming, methods)
	}
	if before == 0 || before+n == 0 {
		s.now = nil
	}
}

// shift returns by how many bits the weights of a set of n are to be scaled down.
func (s *sums) shift(n int) uint { return attr.RingShift(s.weights, n) }

// summary returns the set's, the same one until it says something else.
func (s *sums) summary() *attr.Summary {
	if s.now == nil {
		s.now = &attr.Summary{Methods: slices.Sorted(maps.Keys(s.naming)), Twins: s.twins, Twin: s.twin}
	}
	return s.now
}
