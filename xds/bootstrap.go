package xds

import (
	"encoding/json"
	"errors"
	"path/filepath"
)

// BootstrapOptions say what a client is started with.
type BootstrapOptions struct {
	// Servers are the addresses of management servers, host:port, in the order in which clients try them. Clients that do
	// not know how to fall back take the first: https://github.com/grpc/proposal/blob/master/A71-xds-fallback.md.
	Servers []string
	// ID identifies the client. It must be unique if a policy has a subset.
	ID string
	// Zone is the one that the client runs in, "" for none.
	Zone string
	// CA, Cert and Key are files with the certificates that the servers are verified with, and those of the client. Without
	// CA the connection to the servers is not encrypted.
	CA, Cert, Key string
}

// Bootstrap returns the configuration with which gRPC's clients find management servers, as JSON. They take it from the file
// that GRPC_XDS_BOOTSTRAP names, or from GRPC_XDS_BOOTSTRAP_CONFIG itself.
func Bootstrap(o BootstrapOptions) ([]byte, error) {
	switch {
	case len(o.Servers) == 0:
		return nil, errors.New("xds: a bootstrap needs a server")
	case o.ID == "":
		return nil, errors.New("xds: a bootstrap needs the id of a client")
	case (o.Cert == "") != (o.Key == ""):
		return nil, errors.New("xds: a certificate and its key belong together")
	case filepath.Dir(o.Cert) != filepath.Dir(o.Key):
		return nil, errors.New("xds: a certificate and its key must be in one directory: grpc-go refuses others")
	case o.Cert != "" && o.CA == "":
		return nil, errors.New("xds: a certificate of the client needs the CA that the servers are verified with")
	}
	type creds struct {
		Type   string            `json:"type"`
		Config map[string]string `json:"config,omitempty"`
	}
	type server struct {
		URI      string   `json:"server_uri"`
		Creds    []creds  `json:"channel_creds"`
		Features []string `json:"server_features"`
	}
	type locality struct {
		Zone string `json:"zone,omitempty"`
	}
	type node struct {
		ID       string   `json:"id"`
		Locality locality `json:"locality"` // grpc-js needs one
	}
	how := creds{Type: "insecure"}
	if o.CA != "" {
		how = creds{Type: "tls", Config: map[string]string{"ca_certificate_file": o.CA}}
		if o.Cert != "" {
			how.Config["certificate_file"], how.Config["private_key_file"] = o.Cert, o.Key
		}
	}
	var bootstrap struct {
		Servers []server `json:"xds_servers"`
		Node    node     `json:"node"`
	}
	for _, address := range o.Servers {
		bootstrap.Servers = append(bootstrap.Servers, server{address, []creds{how}, []string{"xds_v3"}})
	}
	bootstrap.Node = node{o.ID, locality{o.Zone}}
	return json.MarshalIndent(bootstrap, "", "  ")
}
