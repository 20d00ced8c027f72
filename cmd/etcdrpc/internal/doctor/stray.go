package doctor

import (
	"fmt"
	"slices"
	"strings"

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

// find returns the service at a key that has an entry, nil if there is none.
func (p *patient) find(key string) *survey.Service {
	at, found := slices.BinarySearchFunc(p.services, key, compareKeys)
	if !found || !p.services[at].InUse() {
		return nil
	}
	return p.services[at]
}

// checkStray finds live policies at keys that no client reads, of services that are there.
func (p *patient) checkStray() {
	for _, e := range p.entries {
		before, segment, key, ok := configAt(e.Key)
		s := p.find(strings.Trim(key, "/"))
		switch {
		case !ok || s == nil || p.excludes(e.Key) || !survey.IsObject(e.Value) || e.Key == s.ConfigKey():
		case strings.Trim(before, "/") != "", before != "" && p.find(before+key) != nil: // in a namespace
		case before == "" && segment+"/" == survey.ConfigPrefix && s.Key != key: // for a bad key
		case before == "" && segment+"/" == survey.ConfigPrefix: // what is in the namespace may be of another service of this name
			p.report(KindStray, fmt.Sprintf("clients read the live policy here, or %q where they have the namespace %q", p.full(s.ConfigKey()), p.full(s.Namespace)),
				"find out which of them the clients of the service read before you change either: Registry.Status tells", e.Key)
		default:
			p.report(KindStray, fmt.Sprintf("no client reads the live policy here: those of the service read %q", p.full(s.ConfigKey())),
				"put it in force where it belongs, and then: "+p.deletion(e.Key), e.Key)
		}
	}
}
