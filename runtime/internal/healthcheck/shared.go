package healthcheck

import (
	"reflect"
	"sync"
)

// Shares knows which services servers follow, or have turned, at health services that they may share. Its zero value knows of none.
type Shares struct {
	mu sync.Mutex
	of map[use]usage
}

// use is a service of a health service.
type use struct {
	server  any // the health service; its type if it cannot be compared
	service string
}

type usage struct {
	followers int
	turned    *Setter // which has turned the service; nil: none has
}

func (u *usage) restore(service string) {
	u.turned.put(u.turned.restore, service)
	u.turned = nil
}

// change changes the uses of services.
func (s *Shares) change(server any, services []string, do func(u *usage, service string)) {
	if !reflect.ValueOf(server).Comparable() {
		server = reflect.TypeOf(server)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = make(map[use]usage)
	}
	for _, service := range services {
		at := use{server, service}
		u := s.of[at]
		do(&u, service)
		if s.of[at] = u; u == (usage{}) {
			delete(s.of, at)
		}
	}
}

// join notes that services are followed until leave, and has them set back.
func (s *Shares) join(server any, services []string) {
	s.change(server, services, func(u *usage, service string) {
		if u.followers++; u.turned != nil {
			u.restore(service)
		}
	})
}

func (s *Shares) leave(server any, services []string) {
	s.change(server, services, func(u *usage, _ string) { u.followers-- })
}
