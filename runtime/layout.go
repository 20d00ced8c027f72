package runtime

import "github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"

// Layout is a format of the key and the value of an endpoint's entry in etcd.
// The layouts are the variables of this package and the results of
// [JSONLayout]. Other packages cannot implement Layout. Layouts are comparable.
//
// Every client reads entries of all layouts, in any mixture, so that servers
// can change their layout one by one. The exceptions are [LeaseSuffix], whose
// keys have no slash after the service's key, and [JSONLayout]: clients read
// these two only on request, in addition to the others.
type Layout interface {
	// String returns the name by which a target selects the layout:
	// "etcd:///hello?layout=lease_suffix". A target cannot select a JSONLayout.
	String() string

	layout() endpoint.Layout
}

// The layouts. KEY is the service's key, INSTANCE the endpoint's id, and LEASE
// the decimal id of the entry's lease.
var (
	// EndpointJSON is the layout of etcd itself: KEY/INSTANCE holds
	// {"Op":0,"Addr":"10.0.0.7:9000","Metadata":{…}}, as package
	// go.etcd.io/etcd/client/v3/naming reads and writes it. Version, zone and
	// weight are members of Metadata. Only in this layout may an address lack a
	// port; port 443 is then used.
	EndpointJSON Layout = sealed{endpoint.EndpointJSON}

	// Plain is the bare address: KEY/INSTANCE holds 10.0.0.7:9000. It carries
	// no metadata.
	Plain Layout = sealed{endpoint.Plain}

	// LeaseSuffix is the bare address under KEYLEASE, with no slash between. It
	// carries no metadata.
	LeaseSuffix Layout = sealed{endpoint.LeaseSuffix}

	// GoZero is the layout of go-zero: KEY/LEASE holds 10.0.0.7:9000. It
	// carries no metadata.
	GoZero Layout = sealed{endpoint.GoZero}

	// Kratos is the layout of kratos: KEY/INSTANCE holds kratos'
	// ServiceInstance as JSON, with the key's last segment as the service name.
	// Zone and weight are members of the metadata.
	Kratos Layout = sealed{endpoint.Kratos}

	// Kitex is the layout of kitex: KEY/ADDRESS holds
	// {"network":"tcp","address":"10.0.0.7:9000","weight":10,"tags":{…}}.
	// Version and zone are tags.
	Kitex Layout = sealed{endpoint.Kitex}

	// GoFrame is the layout of GoFrame: KEY/ADDRESS holds the metadata alone,
	// {"version":"v2","weight":10}. GoFrame's own readers look for keys of five
	// parts, /service/DEPLOYMENT/NAMESPACE/NAME/VERSION, and panic at an IPv6
	// address, so registering an IPv6 address is an error. If ADDRESS is
	// several addresses, separated by commas, clients read the first.
	GoFrame Layout = sealed{endpoint.GoFrame}

	// GoMicro is the layout of go-micro: KEY/INSTANCE holds go-micro's Service
	// as JSON, with one node and with the key's last segment as the service
	// name. Zone and weight are metadata of the node. go-micro's own readers
	// look under /micro/registry/NAME.
	GoMicro Layout = sealed{endpoint.GoMicro}
)

// JSONFields has the names of the top-level fields of a JSON object. A field
// whose name is "" is neither written nor read.
type JSONFields struct {
	Addr     string // "host:port"; "": Host and Port are required
	Host     string // without a port; an IPv6 address has no brackets
	Port     string // written as a number; read as a number or a string
	Instance string // the instance id; "": only the last segment of the etcd key has it
	Version  string
	Zone     string
	Weight   string // written as a number; read as a number or a string
	Metadata string // an object of strings; "": no metadata, as in Plain

	// the service's name: when written, the last segment of its key; when read,
	// ignored
	Name string
}

// JSONLayout returns a layout for JSON of your own: KEY/INSTANCE holds an
// object with these fields. Clients that read it also read the other layouts:
// they parse a value without an address in these fields as another layout.
// Using such a layout is an error if the fields name no address, or if two
// fields have the same name. Layouts of equal fields are equal.
func JSONLayout(fields JSONFields) Layout {
	return sealed{endpoint.MappedJSON(endpoint.JSONFields(fields))}
}

// init lets package endpoint's table of layouts return this package's type.
func init() {
	endpoint.Public = func(l endpoint.Layout) any { return sealed{l} }
}

type sealed struct{ l endpoint.Layout }

func (s sealed) String() string {
	return s.l.String()
}
func (s sealed) layout() endpoint.Layout {
	return s.l
}

// readerOf returns a reader of the layouts that clients always read, and of the
// given ones. It ignores nil layouts.
func readerOf(layouts ...Layout) (endpoint.Reader, error) {
	var all []endpoint.Layout
	for _, l := range layouts {
		if l != nil {
			all = append(all, l.layout())
		}
	}

	return endpoint.NewReader(all...)
}
