package healthcheck

import (
	"reflect"
	"sync"
)

// uses are the services that servers of this process follow, or have turned, at health services that they may share.
var uses = struct {
	sync.Mutex
	of map[use]usage
}{of: make(map[use]usage)}

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

// share changes the uses of services.
func share(server any, services []string, do func(u *usage, service string)) {
	if !reflect.ValueOf(server).Comparable() {
		server = reflect.TypeOf(server)
	}
	uses.Lock()
	defer uses.Unlock()
	for _, service := range services {
		at := use{server, service}
		u := uses.of[at]
		do(&u, service)
		if uses.of[at] = u; u == (usage{}) {
			delete(uses.of, at)
		}
	}
}

// join notes that services are followed until leave, and has them set back.
func join(server any, services []string) {
	share(server, services, func(u *usage, service string) {
		if u.followers++; u.turned != nil {
			u.restore(service)
		}
	})
}

func leave(server any, services []string) {
	share(server, services, func(u *usage, _ string) { u.followers-- })
}
