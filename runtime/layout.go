package runtime

import "github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"

// Layout is one way to keep an endpoint in etcd: a shape of key and value. The layouts are the
// variables of this package and what [JSONLayout] returns; there can be no others. They are
// comparable.
//
// A layout matters to writers only: every client reads entries of all layouts with a slash after
// the service's key, in any mixture, so that a fleet can move from one to another. The exceptions
// are [LeaseSuffix], whose keys have no slash, and a JSONLayout: clients read these where they are
// asked for, beside the others.
type Layout interface {
	// String returns the name by which a target selects the layout: "etcd:///hello?layout=lease_suffix".
	// No target selects a JSONLayout.
	String() string

	layout() endpoint.Layout
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
	// GoFrame is GoFrame's: KEY/ADDRESS holds the metadata alone, {"version":"v2","weight":10}. Its own
	// readers look for keys of five parts, /service/DEPLOYMENT/NAMESPACE/NAME/VERSION, and panic at an
	// IPv6 address, which is an error here. Of an entry with several addresses the first is read.
	GoFrame Layout = sealed{endpoint.GoFrame}
	// GoMicro is go-micro's: KEY/INSTANCE holds its Service as JSON, with one node and with the key's last
	// segment as the name. Zone and weight are metadata of the node. Its own readers look under
	// /micro/registry/NAME.
	GoMicro Layout = sealed{endpoint.GoMicro}
)

// JSONFields names the fields of a home-made JSON object, at its top. What is "" is neither written nor read.
type JSONFields struct {
	Addr     string // "host:port"; or Host and Port
	Host     string // without a port; an IPv6 address has no brackets
	Port     string // written as a number; read as a number or the text of one
	Instance string // the instance id; "": it is only what the etcd key ends in
	Version  string
	Zone     string
	Weight   string // written as a number; read as a number or the text of one
	Metadata string // an object of texts; "": there is no room for metadata, as in Plain
	Name     string // written: the service key's last segment; not read
}

// JSONLayout returns the layout of a home-made JSON: KEY/INSTANCE holds an object with these fields.
// Clients read it beside the other layouts where it is asked for, and take a value that has no address in
// these fields for one of the others. Fields that make no layout, for none has the address or one stands
// for two things, are an error where the layout is used. Equal fields make equal layouts.
func JSONLayout(fields JSONFields) Layout {
	return sealed{endpoint.MappedJSON(endpoint.JSONFields(fields))}
}

type sealed struct{ l endpoint.Layout }

func (s sealed) String() string          { return s.l.String() }
func (s sealed) layout() endpoint.Layout { return s.l }

// readerOf returns the reader of entries in layouts, beside those that are always read.
func readerOf(layouts ...Layout) (endpoint.Reader, error) {
	var all []endpoint.Layout
	for _, l := range layouts {
		if l != nil {
			all = append(all, l.layout())
		}
	}
	return endpoint.NewReader(all...)
}
