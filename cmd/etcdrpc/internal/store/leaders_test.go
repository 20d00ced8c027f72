package store

import (
	"reflect"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
)

// TestCandidatesByKey tells whose candidates are whose, the leaders first.
func TestCandidatesByKey(t *testing.T) {
	got := CandidatesByKey([]survey.Entry{
		{Key: "_grpc_leader/a//1", Value: []byte("x"), Lease: 1, CreateRevision: 3},
		{Key: "_grpc_leader/a//2", Value: []byte("y"), Lease: 2, CreateRevision: 2},
		{Key: "_grpc_leader/a/b//1", Value: []byte("z"), Lease: 1, CreateRevision: 4},
		{Key: "_grpc_leader/none//1", Value: []byte("no lease")},
		{Key: "a/x", Value: []byte("10.0.0.7:9000"), Lease: 1},
	})
	want := map[string][]Candidate{
		"a":   {{candidate.First{Key: "_grpc_leader/a//2", Created: 2}, "y"}, {candidate.First{Key: "_grpc_leader/a//1", Created: 3}, "x"}},
		"a/b": {{candidate.First{Key: "_grpc_leader/a/b//1", Created: 4}, "z"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
