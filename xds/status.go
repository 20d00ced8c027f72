package xds

import (
	"cmp"
	"slices"
	"strings"
)

// Status is the clients, and the hosts that they ask for.
type Status struct {
	Clients []Client // sorted by id
	Hosts   []Host   // that clients ask for, sorted
}

// Client is a connection of a client.
type Client struct {
	ID    string // of its bootstrap; "" before its first request
	Agent string // implementation and version of gRPC
	Zone  string
	Addr  string
	Types []Type
}

// Type is the state of one type of resources at a client.
type Type struct {
	Name    string // such as "Cluster"
	Asked   int    // how many resources it asks for
	Version string // of the last answer, "" for none
	Acked   string // the last version that it acknowledged, "" for none
	Pending bool   // the last answer is neither acknowledged nor refused
	Refused string // why it refused the last answer, "" if it did not
}

// Host is the services that clients dial by one name.
type Host struct {
	Authority   string
	Key         string
	Clients     int
	Known       bool // it was read from etcd
	Endpoints   int
	Unsupported []string // the features that xDS lacks
	Err         error    // why it cannot be read now, or its service config is not in force
}

// Status returns a copy of the current status.
func (s *Server) Status() Status {
	var all Status
	for _, c := range s.ads.Clients() {
		client := Client{ID: c.ID, Agent: c.Agent, Zone: c.Zone, Addr: c.Addr}
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
