package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
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

// namespaces returns the prefixes below which services have live policies or candidates of their own, as in a namespace. Slashes
// alone make none, unless a service of such a policy is there.
func (p *patient) namespaces() map[string]bool {
	all := make(map[string]bool)
	for _, e := range p.entries {
		if at := strings.Index(e.Key, "/"+servicekey.LeaderSegment+"/"); at > 0 {
			all[e.Key[:at+1]] = true
		}
		before, segment, service, ok := configAt(e.Key)
		if ok && segment+"/" == survey.ConfigPrefix && (strings.Trim(before, "/") != "" || before != "" && p.has(before+service)) {
			all[before] = true
		}
	}
	return all
}

// has reports whether a service has an entry.
func (p *patient) has(key string) bool {
	at, found := slices.BinarySearchFunc(p.services, key, compareKeys)
	return found && p.services[at].InUse()
}

// checkStray finds live policies at keys that no client reads, of services that are there, and namespaces that were not looked
// at. It needs to have read more than one service.
func (p *patient) checkStray(d *Options) (all []Finding) {
	namespaces := p.namespaces()
	for _, e := range p.entries {
		before, segment, service, ok := configAt(e.Key)
		service = strings.Trim(service, "/")
		right := store.ConfigOf(service).From
		switch {
		case !ok || d.excludes(e.Key) || strings.Trim(before, "/") != "" || !p.has(service) || namespaces[before] && before != "" || !survey.IsObject(e.Value):
			continue
		case e.Key == right:
			in := namespaceOf(service, namespaces)
			if in == "" {
				continue
			}
			right = in + store.ConfigOf(strings.TrimPrefix(service, in)).From
		case segment+"/" == survey.ConfigPrefix && before == "":
			continue // at a bad key
		}
		all = append(all, newFinding(KindStray, []string{p.full(e.Key)}, fmt.Sprintf("no client reads the live policy here: those of the service read %q", p.full(right)),
			fmt.Sprintf("put it in force where it belongs, and then: etcdctl del %s", output.Shell(p.full(e.Key)))))
	}
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		if !d.excludes(namespace) {
			all = append(all, newFinding(KindNamespace, []string{p.full(namespace)}, "there are live policies or leaders of a namespace, which were not looked at",
				"etcdrpc doctor --namespace="+output.Shell(p.full(namespace))))
		}
	}
	return all
}

// namespaceOf returns the longest of the namespaces that a key is in, "" for none.
func namespaceOf(key string, namespaces map[string]bool) (in string) {
	for namespace := range namespaces {
		if strings.HasPrefix(key, namespace) && len(namespace) > len(in) {
			in = namespace
		}
	}
	return in
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
