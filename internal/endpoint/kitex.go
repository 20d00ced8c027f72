package endpoint

import (
	"encoding/json"
	"fmt"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// Kitex is the layout of kitex.
var Kitex = layout(format{
	name:     "kitex",
	constant: "Kitex",
	entry:    "kitex entry",
	ends:     atAddr,
	encode:   encodeKitex,
	json:     true,
	dialect: dialect{
		where:   "address (kitex)",
		address: []field{fieldAddress},
		read:    document.kitex,
	},
	onJSON: "kitex' own reader adds an instance without an address for other JSON",
})

var (
	fieldNetwork = named("network")
	fieldAddress = named("address")
	fieldTags    = named("tags")
)

// encodeKitex writes the value of kitex' registry-etcd with every field, as
// kitex' own writer does. Kitex' reader replaces a weight of 0 by kitex'
// default.
func encodeKitex(_ Layout, _ string, e Endpoint) ([]byte, error) {
	other := e
	other.Weight = 0
	tags := other.strings()
	if len(tags) == 0 {
		tags = nil
	}

	return json.Marshal(struct {
		Network string            `json:"network"`
		Address string            `json:"address"`
		Weight  uint32            `json:"weight"`
		Tags    map[string]string `json:"tags"`
	}{
		Network: "tcp",
		Address: e.Addr,
		Weight:  e.Weight,
		Tags:    tags,
	})
}

// kitex reads a value of kitex' registry-etcd.
func (d document) kitex(string) (Endpoint, error) {
	if present(d[fieldNetwork]) {
		switch network := rawjson.Text(d[fieldNetwork]); network {
		case "", "tcp", "tcp4", "tcp6":
		default:
			return Endpoint{}, fmt.Errorf("network %.20q is not tcp", network)
		}
	}

	addr, err := address(d[fieldAddress], true)
	if err != nil {
		return Endpoint{}, err
	}

	e := Endpoint{Addr: addr}
	e.take(d[fieldTags])
	e.takeWeight(d[fieldWeight])

	return e, nil
}
