package balancer

import (
	"strconv"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
)

// leader is the target of the calls of the leader's methods. It is immutable.
type leader struct {
	methods  map[string]struct{} // full method names
	instance string              // "": no leader is known
	token    metadata.MD
}

// leaderOf returns the leader for a connection, nil if it has no method for the leader.
func leaderOf(client *attr.Client, now attr.Leader) *leader {
	if len(client.LeaderMethods) == 0 {
		return nil
	}
	l := &leader{methods: client.LeaderMethods, instance: now.Instance}
	if now.Instance != "" {
		l.token = metadata.Pairs(election.TokenHeader, strconv.FormatInt(now.Token, 10))
	}
	return l
}

// has reports whether the calls of a method go to the leader.
func (l *leader) has(method string) bool {
	if l == nil {
		return false
	}
	_, ok := l.methods[method]
	return ok
}

// pick picks the connection to the leader. Without a leader, the call waits. Since it is wait-for-ready, it also waits for an
// unreachable leader, and ends with the error of the last pick.
func (l *leader) pick(t *targets) (balancer.PickResult, error) {
	if l.instance == "" {
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	result, err := t.pick(calloptions.Target{Instance: l.instance}, true)
	if err == nil {
		result.Metadata = l.token
	}
	return result, err
}
