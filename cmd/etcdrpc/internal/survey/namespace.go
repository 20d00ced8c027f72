package survey

import (
	"maps"
	"slices"
	"strings"
)

// Namespaces returns those that a key may lie in, the longest first: what it begins with, up to a slash. A slash alone is
// none, for some write it before every key.
func Namespaces(key string) (all []string) {
	for n := 1; n < len(key)-1; n++ {
		if key[n] == '/' {
			all = append(all, key[:n+1])
		}
	}
	slices.Reverse(all)
	return all
}

// NamespaceMarks returns the prefixes of what nobody but the clients and servers of a namespace keeps: live configs and
// candidates.
func NamespaceMarks(namespace string) []string {
	return []string{namespace + ConfigPrefix, namespace + leaderPrefix}
}

// ConfigOwner returns the key of the service whose live config is at a key, be it in a namespace below what is looked at.
func ConfigOwner(key string) (service string, ok bool) {
	if service, ok = strings.CutPrefix(key, ConfigPrefix); ok {
		return service, true
	}
	namespace, rest, ok := strings.Cut(key, "/"+ConfigPrefix)
	return namespace + "/" + rest, ok && namespace != ""
}

// ConfigKey returns the key of the live config that the clients of the service read.
func (s *Service) ConfigKey() string {
	return s.Namespace + ConfigPrefix + strings.TrimPrefix(s.Key, s.Namespace)
}

// namespaces holds the live configs of what is looked at, which is the namespace "", and of the namespaces that lie below it,
// by the keys that their services have here; nil: a service has candidates alone.
type namespaces map[string]map[string]*Entry

// namespacesIn finds the live configs among some entries.
func namespacesIn(entries []Entry) namespaces {
	n := namespaces{"": {}}
	for i := range entries {
		n.see(&entries[i])
	}
	return n
}

// see takes in an entry that is a live config, or shows a namespace.
func (n namespaces) see(e *Entry) {
	if key, ok := strings.CutPrefix(e.Key, ConfigPrefix); ok {
		n[""][key] = e
	}
	for _, mark := range NamespaceMarks("") {
		before, key, ok := strings.Cut(e.Key, "/"+mark)
		if !ok || before == "" || mark == leaderPrefix && !strings.Contains(key, "//") {
			continue
		}
		services := n[before+"/"]
		if services == nil {
			services = make(map[string]*Entry)
			n[before+"/"] = services
		}
		if mark == ConfigPrefix {
			services[before+"/"+key] = e
			continue
		}
		service, _, _ := strings.Cut(before+"/"+key, "//")
		if services[service] == nil {
			services[service] = nil
		}
	}
}

// around returns a function that returns the namespaces which a key lies in, the longest last. It is to be asked for keys in
// their order: then it looks at each namespace once, of which there may be as many as keys.
func (n namespaces) around() func(key string) []string {
	left, open := slices.Sorted(maps.Keys(n)), []string(nil)
	leave := func(key string) {
		for len(open) > 0 && !strings.HasPrefix(key, open[len(open)-1]) {
			open = open[:len(open)-1]
		}
	}
	return func(key string) []string {
		for len(left) > 0 && left[0] < key {
			leave(left[0])
			open, left = append(open, left[0]), left[1:]
		}
		leave(key)
		return open
	}
}

// place gives a service the live config that its clients read. What is kept in a namespace around it, be it another service's,
// says that it lies there; where it has a live config by its whole key, only what is its own does.
func (n namespaces) place(s *Service, around []string) {
	if s.InUse() {
		own := n[""][s.Key] != nil
		for _, namespace := range slices.Backward(around) {
			if _, its := n[namespace][s.Key]; its || !own {
				s.Namespace = namespace
				break
			}
		}
	}
	configs := n[s.Namespace]
	s.Config = configs[s.Key]
	s.Reason = s.Config.Reason(configs[ReasonKey(s.Key)])
}
