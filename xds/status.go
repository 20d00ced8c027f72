package xds

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Status is who is connected, and what is known of what they ask for, at one moment.
type Status struct {
	Clients []Client // sorted by id
	Hosts   []Host   // that clients ask for, sorted
}

// Client is a connection of a client.
type Client struct {
	ID       string // that its bootstrap gives; "" until it has asked for something
	Agent    string // which gRPC it is, and of which version
	Zone     string
	Addr     string
	Since    time.Time
	Answered time.Time // when it last answered: acknowledged, refused, or asked for other names; zero: never
	Types    []Type
}

// Type is what a client was told of one type of resources, and what it made of that.
type Type struct {
	Name    string // such as "Cluster"
	Asked   int    // how many it asks for
	Version string // of the last answer; "": there was none
	Acked   string // the last version that it acknowledged; "": none
	Pending bool   // the last answer is neither acknowledged nor refused
	Refused string // why the last answer was refused; "": it was not
}

// Host is the services that clients dial by one name.
type Host struct {
	Authority string
	Key       string
	Services  []string // their full names; "" for one without a proto file
	Clients   int      // that ask for it
	Known     bool     // etcd has told what there is
	Endpoints int
	Lost      []string // what xDS cannot say of it
	Err       error    // why it cannot be followed now, or its service config is not in force
}

// Status returns who is connected, and what is known: a copy.
func (s *Server) Status() Status {
	var all Status
	for _, c := range s.ads.Clients() {
		client := Client{ID: c.ID, Agent: c.Agent, Zone: c.Zone, Addr: c.Addr, Since: c.Since, Answered: c.Answered}
		for _, t := range c.Status {
			name := t.Kind.String()
			client.Types = append(client.Types, Type{
				Name: name[strings.LastIndex(name, ".")+1:], Asked: t.Names, Version: t.Version, Acked: t.Acked, Pending: t.Pending, Refused: t.Refused,
			})
		}
		all.Clients = append(all.Clients, client)
	}
	slices.SortFunc(all.Clients, func(a, b Client) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Addr, b.Addr))
	})
	for _, h := range s.catalog.Hosts() {
		all.Hosts = append(all.Hosts, Host(h))
	}
	return all
}
