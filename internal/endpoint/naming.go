package endpoint

import (
	"encoding/json"
	"fmt"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// encodeNaming writes the value of etcd's naming package.
func encodeNaming(_ Layout, _ string, e Endpoint) ([]byte, error) {
	return json.Marshal(struct {
		Op       int
		Addr     string
		Metadata map[string]any `json:",omitempty"`
	}{Addr: e.Addr, Metadata: e.members()})
}

// naming reads a value of etcd's naming package, or one that is almost that: many services write the names
// in lower case, or the version, zone and weight beside the address. Those in the metadata take precedence.
func (d *document) naming() (Endpoint, error) {
	if present(d.op) && string(d.op) != "0" {
		return Endpoint{}, fmt.Errorf("the entry marks a deletion: Op is %s, not 0", printable.Short(string(d.op), 20))
	}
	addr, err := address(d.addr, false)
	if err != nil {
		return Endpoint{}, err
	}
	e := Endpoint{Addr: withPort(addr), Version: word(d.version), Zone: word(d.zone)}
	e.takeWeight(d.weight)
	e.take(d.lower)
	e.take(d.metadata)
	return e, nil
}
