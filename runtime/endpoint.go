package runtime

// Endpoint is one instance of a service, as read from its entry under the
// service's key.
type Endpoint struct {
	// the id, unique under the service's key; in etcd, the last part of the
	// entry's key
	Instance string

	// "host:port", the host an IP address (IPv6 in brackets) or a DNS name
	Addr string

	Version string // free text such as "v2"; "" if unset
	Zone    string // the zone that the instance runs in, "eu-1a"; "" if unset

	// the relative share of the calls under the weighted policy; 0 counts as 1
	Weight uint32

	// anything else; must not be changed once passed on or received
	Metadata map[string]string
}
