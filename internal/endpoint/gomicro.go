package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// microNode is a node of a go-micro Service.
type microNode struct {
	Metadata map[string]string `json:"metadata"`
	ID       string            `json:"id"`
	Address  string            `json:"address"`
}

// encodeGoMicro writes a go-micro Service with one node, as go-micro's etcd registry does for each node.
func encodeGoMicro(_ Layout, key string, e Endpoint) ([]byte, error) {
	metadata := e.strings()
	e.addWeight(metadata)
	return json.Marshal(struct {
		Name      string            `json:"name"`
		Version   string            `json:"version"`
		Metadata  map[string]string `json:"metadata"`
		Endpoints []struct{}        `json:"endpoints"`
		Nodes     []microNode       `json:"nodes"`
	}{
		Name: lastSegment(key), Version: e.Version, Endpoints: []struct{}{},
		Nodes: []microNode{{metadata, e.Instance, e.Addr}},
	})
}

// goMicro reads a go-micro Service: the node whose id is in the etcd key, or the only node.
func (d *document) goMicro(instance string) (Endpoint, error) {
	type node struct {
		Metadata json.RawMessage
		ID       string
		Address  string
	}
	var nodes []node
	if err := json.Unmarshal(d.nodes, &nodes); err != nil {
		return Endpoint{}, fmt.Errorf("nodes: %w", err)
	}
	if len(nodes) == 0 {
		return Endpoint{}, errors.New("it has no nodes")
	}
	i := slices.IndexFunc(nodes, func(n node) bool { return strings.ReplaceAll(n.ID, "/", "-") == instance })
	if i < 0 && len(nodes) > 1 {
		return Endpoint{}, fmt.Errorf("%d nodes, none of which has the id %.80q of the key", len(nodes), instance)
	}
	n := nodes[max(i, 0)]
	if err := CheckAddr(n.Address, true); err != nil {
		return Endpoint{}, err
	}
	e := Endpoint{Addr: n.Address}
	e.take(d.lower)
	e.take(n.Metadata)
	if text := word(d.version); text != "" {
		e.Version = text
	}
	return e, nil
}
