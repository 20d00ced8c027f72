package endpoint

import (
	"encoding/json"
	"fmt"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// encodeKitex writes the value of kitex' registry-etcd with every field, as kitex' own writer does. Its
// reader takes a weight of 0 for its default.
func encodeKitex(_ Layout, _ string, e Endpoint) ([]byte, error) {
	tags := e.strings()
	if e.Version != "" {
		tags[nameVersion] = e.Version
	}
	if len(tags) == 0 {
		tags = nil
	}
	return json.Marshal(struct {
		Network string            `json:"network"`
		Address string            `json:"address"`
		Weight  uint32            `json:"weight"`
		Tags    map[string]string `json:"tags"`
	}{Network: "tcp", Address: e.Addr, Weight: e.Weight, Tags: tags})
}

// kitex reads a value of kitex' registry-etcd.
func (d *document) kitex() (Endpoint, error) {
	if present(d.network) {
		switch network := rawjson.Text(d.network); network {
		case "", "tcp", "tcp4", "tcp6":
		default:
			return Endpoint{}, fmt.Errorf("network %.20q is not tcp", network)
		}
	}
	addr, err := address(d.address, true)
	if err != nil {
		return Endpoint{}, err
	}
	e := Endpoint{Addr: addr}
	e.take(d.tags)
	if weight, ok := parseWeight(rawjson.Text(d.weight)); ok && weight != 0 {
		e.Weight = weight
		delete(e.Metadata, nameWeight)
	}
	return e, nil
}
