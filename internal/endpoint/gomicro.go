package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// GoMicro is the layout of go-micro.
var GoMicro = layout(format{
	name:     "go_micro",
	constant: "GoMicro",
	entry:    "go-micro entry",
	ends:     atInstance,
	encode:   encodeGoMicro,
	json:     true,
	// In an object with nodes, the field endpoints has methods, and the field
	// address is not the address of a node.
	dialect: dialect{
		where:   "nodes (go-micro)",
		address: []field{fieldNodes},
		array:   true,
		hides:   []field{named("endpoints"), named("address")},
		read:    document.goMicro,
	},
	onJSON: "go-micro's own reader lists a service without nodes or a name for other JSON",
})

var fieldNodes = named("nodes")

// microNode is a node of a go-micro Service.
type microNode struct {
	Metadata map[string]string `json:"metadata"`
	ID       string            `json:"id"`
	Address  string            `json:"address"`
}

// encodeGoMicro writes a go-micro Service with one node, as go-micro's etcd
// registry does for each node.
func encodeGoMicro(_ Layout, key string, e Endpoint) ([]byte, error) {
	if err := checkMicroProtocol(e.Metadata[microProtocol]); err != nil {
		return nil, fmt.Errorf(
			"readers would not accept the endpoint as a gRPC server: %w", err)
	}

	other := e
	other.Version = ""

	return json.Marshal(struct {
		Name      string            `json:"name"`
		Version   string            `json:"version"`
		Metadata  map[string]string `json:"metadata"`
		Endpoints []struct{}        `json:"endpoints"`
		Nodes     []microNode       `json:"nodes"`
	}{
		Name:      lastSegment(key),
		Version:   e.Version,
		Endpoints: []struct{}{},
		Nodes:     []microNode{{other.strings(), e.Instance, e.Addr}},
	})
}

// goMicro reads one node of a go-micro Service: the node whose id is in the
// etcd key or, if the Service has only one node, that node.
func (d document) goMicro(instance string) (Endpoint, error) {
	nodes, err := d.microNodes()
	if err != nil {
		return Endpoint{}, err
	}

	if len(nodes) == 0 {
		return Endpoint{}, errors.New("it has no nodes")
	}

	i := slices.IndexFunc(nodes, func(n rawNode) bool {
		return strings.ReplaceAll(n.id, "/", "-") == instance
	})
	if i < 0 && len(nodes) > 1 {
		return Endpoint{}, fmt.Errorf(
			"%d nodes, none of which has the id %.80q of the key", len(nodes), instance)
	}

	n := nodes[max(i, 0)]
	addr, err := address(n.address, true)
	if err != nil {
		return Endpoint{}, err
	}

	var node Endpoint
	node.take(n.metadata)

	if err := checkMicroProtocol(node.Metadata[microProtocol]); err != nil {
		return Endpoint{}, err
	}

	e := Endpoint{Addr: addr}
	e.take(d[fieldLower])
	e.take(n.metadata)
	takeText(&e.Version, d[fieldVersion])

	return e, nil
}

// microProtocol is the piece of metadata with the protocol of a go-micro
// server: grpc, mucp, http or https.
const microProtocol = "protocol"

// checkMicroProtocol returns an error if a node does not speak gRPC. Other
// writers may omit the protocol.
func checkMicroProtocol(protocol string) error {
	if protocol == "" || strings.HasPrefix(protocol, "grpc") {
		return nil
	}

	return fmt.Errorf("the node's protocol is %.40q, not grpc", protocol)
}

// rawNode is a node before its fields are checked.
type rawNode struct {
	id                string
	address, metadata json.RawMessage
}

func (d document) microNodes() ([]rawNode, error) {
	all, err := elements("nodes", d[fieldNodes])
	if err != nil {
		return nil, err
	}

	nodes := make([]rawNode, len(all))
	for i, raw := range all {
		nodes[i], err = microNodeOf(raw)
		if err != nil {
			return nil, err
		}
	}

	return nodes, nil
}

func microNodeOf(raw json.RawMessage) (n rawNode, err error) {
	if raw[0] != '{' {
		return n, fmt.Errorf("a node is %s, not an object",
			printable.Short(string(raw), 20))
	}

	rawjson.Members(raw, func(name, value []byte) bool {
		switch string(name) {
		case "id":
			if present(value) {
				n.id, err = text("id", value)
			}

		case "address":
			n.address = value
		case "metadata":
			n.metadata = value
		}

		return err == nil
	})

	return n, err
}
