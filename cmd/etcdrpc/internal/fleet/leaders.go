package fleet

import (
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// leadersAmong returns the instance that leads each service, by its key.
func leadersAmong(entries []survey.Entry) map[string]string {
	stood := make(map[string][]survey.Entry) // by the keys of the services
	for _, e := range entries {
		key, _, ok := strings.Cut(strings.TrimPrefix(e.Key, servicekey.LeaderSegment+"/"), "//")
		if ok && strings.HasPrefix(e.Key, servicekey.LeaderPrefix(key)) {
			stood[key] = append(stood[key], e)
		}
	}
	leaders := make(map[string]string, len(stood))
	for key, all := range stood {
		if candidates := store.CandidatesAmong(key, all); len(candidates) > 0 {
			leaders[key] = candidates[0].Instance
		}
	}
	return leaders
}
