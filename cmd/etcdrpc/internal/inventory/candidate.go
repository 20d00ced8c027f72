package inventory

import (
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// leaderPrefix is the prefix of the keys of candidates for the leadership of services.
const leaderPrefix = servicekey.LeaderSegment + "/"

// Candidate is an instance that is a candidate for the leadership of a service.
type Candidate struct {
	candidate.First
	Instance string
}

func (c Candidate) compare(other Candidate) int {
	if c.Precedes(other.First) {
		return -1
	}
	return 1
}

// candidateOf returns the candidate that an entry records, and the key of its service.
func candidateOf(e Entry) (service string, c Candidate, ok bool) {
	name, ok := strings.CutPrefix(e.Key, leaderPrefix)
	if !ok {
		return "", Candidate{}, false
	}
	service, _, _ = strings.Cut(name, "//")
	instance, err := candidate.InstanceOf(servicekey.LeaderPrefix(service), &mvccpb.KeyValue{Key: []byte(e.Key), Value: e.Value, Lease: e.Lease})
	return service, Candidate{candidate.First{Key: e.Key, Created: e.CreateRevision}, instance}, err == nil
}

// IsCandidate reports whether key is that of a candidate for leadership, also in a namespace below. Other keys under this
// prefix have no double slash.
func IsCandidate(key string) bool {
	_, rest, ok := strings.Cut("/"+key, "/"+leaderPrefix)
	return ok && strings.Contains(rest, "//")
}
