package xds

import (
	"encoding/json"
	"errors"
	"path/filepath"
)

// BootstrapOptions configure a client's bootstrap.
type BootstrapOptions struct {
	// Servers are the addresses of management servers, host:port, in the order in which clients try them. Clients without
	// support for fallback use the first: https://github.com/grpc/proposal/blob/master/A71-xds-fallback.md.
	Servers []string
	// ID identifies the client. It must be unique if a policy has a subset.
	ID string
	// Zone is the zone of the client, "" for none.
	Zone string
	// CA has the certificates that verify the servers, and Cert and Key are the client's; all are
	// files. Without CA the connection to the servers is not encrypted.
	CA, Cert, Key string
}

// Bootstrap returns the configuration with which gRPC's clients find management servers, as JSON.
// Clients read it from the file that GRPC_XDS_BOOTSTRAP names, or from GRPC_XDS_BOOTSTRAP_CONFIG.
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
	creds := map[string]any{"type": "insecure"}
	if o.CA != "" {
		files := map[string]string{"ca_certificate_file": o.CA}
		if o.Cert != "" {
			files["certificate_file"], files["private_key_file"] = o.Cert, o.Key
		}
		creds = map[string]any{"type": "tls", "config": files}
	}
	var servers []any
	for _, address := range o.Servers {
		servers = append(servers, map[string]any{"server_uri": address, "channel_creds": []any{creds}, "server_features": []string{"xds_v3"}})
	}
	locality := map[string]string{} // grpc-js requires a locality
	if o.Zone != "" {
		locality["zone"] = o.Zone
	}
	return json.MarshalIndent(map[string]any{"xds_servers": servers, "node": map[string]any{"id": o.ID, "locality": locality}}, "", "  ")
}
