package endpoint

import (
	"encoding/json"
	"fmt"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// EndpointJSON is the format of etcd's naming package.
var EndpointJSON = layout(format{
	name:     "endpoint_json",
	constant: "EndpointJSON",
	entry:    "etcd's naming entry",
	ends:     atInstance,
	encode:   encodeNaming,
	bareHost: true,
	json:     true,
	dialect: dialect{
		where:   "Addr (etcd)",
		address: []field{fieldAddr},
		read:    document.naming,
	},
})

var (
	fieldOp   = named("Op", "op")
	fieldAddr = named("Addr", "addr")
)

// encodeNaming writes the value of etcd's naming package.
func encodeNaming(_ Layout, _ string, e Endpoint) ([]byte, error) {
	return json.Marshal(struct {
		Op       int
		Addr     string
		Metadata map[string]any `json:",omitempty"`
	}{
		Addr:     e.Addr,
		Metadata: e.members(),
	})
}

// naming reads a value of etcd's naming package, or a similar one. Many
// services write the names in lower case, or the version, zone and weight next
// to the address. The version, zone and weight in the metadata take precedence.
func (d document) naming(string) (Endpoint, error) {
	if present(d[fieldOp]) && string(d[fieldOp]) != "0" {
		return Endpoint{}, fmt.Errorf("the entry marks a deletion: Op is %s, not 0",
			printable.Short(string(d[fieldOp]), 20))
	}

	addr, err := address(d[fieldAddr], false)
	if err != nil {
		return Endpoint{}, err
	}

	e := Endpoint{
		Addr:    withPort(addr),
		Version: word(d[fieldVersion]),
		Zone:    word(d[fieldZone]),
	}

	e.takeWeight(d[fieldWeight])
	e.take(d[fieldLower])
	e.take(d[fieldMetadata])

	return e, nil
}
