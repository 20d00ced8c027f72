package store

import (
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// Candidate is an instance that stands for the leadership of a service.
type Candidate struct {
	candidate.First
	Instance string
}

// CandidatesByKey returns the candidates that are among entries, by the keys of the services that have some, the leaders first.
func CandidatesByKey(entries []survey.Entry) map[string][]Candidate {
	standing := make(map[string][]survey.Entry)
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Key, servicekey.LeaderSegment+"/"); ok {
			key, _, _ := strings.Cut(name, "//")
			standing[key] = append(standing[key], e)
		}
	}
	byKey := make(map[string][]Candidate)
	for key := range standing {
		if all := CandidatesAmong(key, standing[key]); len(all) > 0 {
			byKey[key] = all
		}
	}
	return byKey
}

// CandidatesAmong returns the candidates for a service that are among entries, the leader first.
func CandidatesAmong(key string, entries []survey.Entry) (all []Candidate) {
	for _, e := range entries {
		instance, err := candidate.InstanceOf(servicekey.LeaderPrefix(key), &mvccpb.KeyValue{Key: []byte(e.Key), Value: e.Value, Lease: e.Lease})
		if err == nil {
			all = append(all, Candidate{candidate.First{Key: e.Key, Created: e.CreateRevision}, instance})
		}
	}
	slices.SortFunc(all, func(a, b Candidate) int {
		if a.Precedes(b.First) {
			return -1
		}
		return 1
	})
	return all
}
