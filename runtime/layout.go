package runtime

import "github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"

// Layout is one way to keep an endpoint in etcd: a shape of key and value. The layouts are the
// variables of this package; there can be no others.
//
// A layout matters to writers only: every client reads entries of all layouts with a slash after
// the service's key, in any mixture, so that a fleet can move from one to another. The exception
// is [LeaseSuffix], whose keys have no slash: clients read it where it is asked for.
type Layout interface {
	// String returns the name by which a target selects the layout: "etcd:///hello?layout=lease_suffix".
	String() string

	layout() *endpoint.Layout
}

// The layouts. KEY is the service's key, INSTANCE the endpoint's id, LEASE the decimal id of the
// lease that the entry hangs on.
var (
	// EndpointJSON is etcd's own: KEY/INSTANCE holds {"Op":0,"Addr":"10.0.0.7:9000","Metadata":{…}},
	// as package go.etcd.io/etcd/client/v3/naming reads and writes it. Version, zone and weight are
	// members of Metadata. Alone among the layouts it may name a host without a port, which then
	// means port 443.
	EndpointJSON Layout = sealed{endpoint.EndpointJSON}
	// Plain is the bare address: KEY/INSTANCE holds 10.0.0.7:9000. It carries no metadata.
	Plain Layout = sealed{endpoint.Plain}
	// LeaseSuffix is the bare address under KEYLEASE, with no slash between. It carries no metadata.
	LeaseSuffix Layout = sealed{endpoint.LeaseSuffix}
	// GoZero is go-zero's: KEY/LEASE holds 10.0.0.7:9000. It carries no metadata.
	GoZero Layout = sealed{endpoint.GoZero}
	// Kratos is kratos': KEY/INSTANCE holds its ServiceInstance as JSON, with the key's last segment
	// as the service name. Zone and weight are members of its metadata.
	Kratos Layout = sealed{endpoint.Kratos}
	// Kitex is kitex': KEY/ADDRESS holds {"network":"tcp","address":"10.0.0.7:9000","weight":10,"tags":{…}}.
	// Version and zone are tags.
	Kitex Layout = sealed{endpoint.Kitex}
)

type sealed struct{ l *endpoint.Layout }

func (s sealed) String() string           { return s.l.String() }
func (s sealed) layout() *endpoint.Layout { return s.l }
