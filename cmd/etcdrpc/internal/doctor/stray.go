package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// configAt splits the key of what seems to be a live policy into what is before the segment for these, that segment, and the key
// of the service.
func configAt(key string) (before, segment, service string, ok bool) {
	for from := 0; from < len(key); {
		segment, _, _ := strings.Cut(key[from:], "/")
		if strings.TrimSuffix(survey.NormalName(segment), "s") == "grpcconfig" {
			return key[:from], segment, strings.TrimPrefix(key[from+len(segment):], "/"), true
		}
		from += len(segment) + 1
	}
	return "", "", "", false
}

// configOf returns where the clients of a service read its live policy.
func configOf(s *survey.Service) store.KeyRange {
	return store.KeyOnly(s.Namespace + store.ConfigOf(strings.TrimPrefix(s.Key, s.Namespace)).From)
}

// find returns the service at a key that has an entry, nil if there is none.
func (p *patient) find(key string) *survey.Service {
	at, found := slices.BinarySearchFunc(p.services, key, compareKeys)
	if !found || !p.services[at].InUse() {
		return nil
	}
	return p.services[at]
}

// checkStray finds live policies at keys that no client reads, of services that are there.
func (p *patient) checkStray(d *Options) (all []Finding) {
	for _, e := range p.entries {
		before, segment, key, ok := configAt(e.Key)
		s := p.find(strings.Trim(key, "/"))
		switch {
		case !ok || s == nil || d.excludes(e.Key) || !survey.IsObject(e.Value) || e.Key == configOf(s).From:
			continue
		case strings.Trim(before, "/") != "", before != "" && p.find(before+key) != nil:
			continue // in a namespace
		case before == "" && segment+"/" == survey.ConfigPrefix && s.Key != key:
			continue // for a bad key
		}
		all = append(all, newFinding(KindStray, []string{p.full(e.Key)}, fmt.Sprintf("no client reads the live policy here: those of the service read %q", p.full(configOf(s).From)),
			fmt.Sprintf("put it in force where it belongs, and then: etcdctl del %s", output.Shell(p.full(e.Key)))))
	}
	return all
}

// meant returns the service with instances whose key differs from another one in spelling alone, nil if there is none.
func (p *patient) meant(key string) *survey.Service {
	plain := func(key string) string { return survey.NormalName(strings.ReplaceAll(key, "/", "")) }
	at := slices.IndexFunc(p.services, func(s *survey.Service) bool { return s.InUse() && plain(s.Key) == plain(key) })
	if at < 0 {
		return nil
	}
	return p.services[at]
}
