package runtime

import "google.golang.org/grpc"

// Endpoint is one instance of a service, as read from its entry under the service's key.
type Endpoint struct {
	Instance string            // the instance's id, unique under its key; in etcd the last part of the entry's key
	Addr     string            // "host:port", the host an IP address (IPv6 in brackets) or a DNS name
	Version  string            // free text such as "v2"; "" unset
	Zone     string            // where it runs, "eu-1a"; "" unset
	Weight   uint32            // relative share of the calls under the weighted policy; 0 is unset and counts as 1
	Metadata map[string]string // anything else; must not be changed once passed on or received
}

// Instance is one instance of a service, as it was when [Instances.All] returned it.
type Instance struct {
	Endpoint

	// Conn calls this instance and no other. Calls fail with Unavailable once the instance has left.
	Conn grpc.ClientConnInterface
}
