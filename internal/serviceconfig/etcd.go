package serviceconfig

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

const (
	childField = "childPolicy"
	splitField = "split"
	drainField = "drain"
)

// Etcd is the config of the policy "etcd", which decides which instances a call may go to.
type Etcd struct {
	// Split divides the calls among groups of endpoints. An endpoint belongs to the first group that it
	// matches; endpoints that match none get calls only while no group has a ready one.
	Split []Split `json:"split,omitempty"`
	// PreferZone sends the calls to the client's own zone while an endpoint there is ready.
	PreferZone bool `json:"preferZone,omitempty"`
	// Drain names instances, or addresses, that get no new calls.
	Drain []string `json:"drain,omitempty"`
	// ChildPolicy lists policies, of which the first that is linked picks among the remaining endpoints.
	// The default is round_robin, so it is never empty once read.
	ChildPolicy []Policy `json:"childPolicy"`
	// Claim identifies a config that the process itself hands to gRPC. Only [ParseEtcd] reads it.
	Claim uint64 `json:"claim,omitempty"`
}

var etcdFields = fields[Etcd]{
	splitField:   func(e *Etcd, v value) error { return assign(&e.Split)(readSplits(v)) },
	"preferZone": func(e *Etcd, v value) error { return assign(&e.PreferZone)(v.bool()) },
	drainField:   func(e *Etcd, v value) error { return assign(&e.Drain)(readDrain(v)) },
	childField:   func(e *Etcd, v value) error { return assign(&e.ChildPolicy)(readPolicies(v, EtcdName)) },
}

// trustedEtcdFields is etcdFields and the fields that only the process itself may use.
var trustedEtcdFields = fields[Etcd]{
	"claim": func(e *Etcd, v value) error { return assign(&e.Claim)(number[uint64](v, 0, 1<<63)) },
}

func init() {
	for name, read := range etcdFields {
		trustedEtcdFields[name] = read
	}
}

// ParseEtcd reads the config of the policy "etcd", as gRPC hands it to the policy. It may come from the
// caller's own code, so policies below may be ones that are not described here; their configs are kept
// as they are.
func ParseEtcd(text json.RawMessage) (*Etcd, error) {
	v, err := parseText(string(text))
	if err != nil {
		return nil, fmt.Errorf("policy %q: %w", EtcdName, err)
	}
	v.trusted = true
	e, err := readObject(v, trustedEtcdFields)
	if err == nil {
		err = e.check()
	}
	if err != nil {
		return nil, fmt.Errorf("policy %q: %w", EtcdName, err)
	}
	return &e, nil
}

// check fills in what is left out.
func (e *Etcd) check() error {
	if e.ChildPolicy == nil {
		e.ChildPolicy = []Policy{{RoundRobinName, &Bare{}}}
	}
	return nil
}

func readDrain(v value) ([]string, error) {
	if v.raw[0] == '[' && rawjson.SkipSpace(v.raw[1:])[0] == ']' {
		return nil, nil // as undrain leaves it
	}
	var names []string
	err := v.elements("instances or addresses", func(v value) error {
		name, err := v.text()
		if err == nil && name == "" {
			err = errors.New("want an instance or an address, not an empty name")
		}
		names = append(names, name)
		return err
	})
	return names, err
}
