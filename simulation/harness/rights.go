package harness

import (
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// rights holds what each process may do in etcd, where etcd asks for passwords.
type rights struct {
	w       *world
	turn    chan struct{}  // held while they change, which takes a while
	refused map[int]string // by process: the right that it lacks
}

func newRights(w *world) *rights {
	r := &rights{w: w, turn: make(chan struct{}, 1), refused: make(map[int]string)}
	r.apply()
	return r
}

// refuse takes a right from a process until the returned function is called.
func (r *rights) refuse(who int, what string) (restore func()) {
	set := func(what string) {
		r.turn <- struct{}{}
		r.refused[who] = what
		<-r.turn
		r.apply()
	}
	set(what)
	return func() { set("") }
}

// apply sets the rights in etcd.
func (r *rights) apply() {
	if !r.w.plan.Auth {
		return
	}
	r.turn <- struct{}{}
	defer func() { <-r.turn }()
	users := []etcd.User{{Name: "root", Password: password}}
	for i := range r.w.plan.Processes() + len(r.w.plan.Servers) { // the twins, too
		users = append(users, etcd.User{Name: r.w.plan.Name(i), Password: password, Rights: rightsWithout(r.refused[i])})
	}
	r.w.operated(r.w.etcd.Protect(users...))
}

const password = "secret"

// rightsWithout returns the rights of a process to which one thing is refused.
func rightsWithout(what string) []etcd.Right {
	services := etcd.Right{From: acme.Prefix, To: rangeEnd(acme.Prefix), Read: what != schedule.Read, Write: what != schedule.Write}
	config := etcd.Right{From: acme.Configs, To: rangeEnd(acme.Configs), Read: what != schedule.ReadConfig}
	elections := etcd.Right{
		From: acme.Leaders + acme.Prefix, To: rangeEnd(acme.Leaders + acme.Prefix),
		Read: services.Read && what != schedule.ReadVotes, Write: services.Write && what != schedule.WriteVotes,
	}
	return []etcd.Right{services, elections, config}
}

// rangeEnd returns the end of the range of keys that begin with a prefix, which ends with a slash.
func rangeEnd(prefix string) string { return strings.TrimSuffix(prefix, "/") + "0" }

// client makes a client of etcd under the name of a process.
func (r *rights) client(config clientv3.Config, name string) (*clientv3.Client, error) {
	if r.w.plan.Auth {
		config.Username, config.Password = name, password
	}
	return clientv3.New(config)
}
