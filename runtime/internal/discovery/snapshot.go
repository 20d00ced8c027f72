package discovery

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// maxSnapshot bounds a snapshot file, in bytes, both when it is written and when it is read.
const maxSnapshot = 32 << 20

var errSnapshotTooLarge = fmt.Errorf("the snapshot has more than %d bytes", maxSnapshot)

// snapshot is the content of a snapshot file.
type snapshot struct {
	Saved     time.Time         `json:"saved"`
	Live      json.RawMessage   `json:"live_config,omitempty"`
	Endpoints []json.RawMessage `json:"endpoints"` // each a snapshotEndpoint
}

type snapshotEndpoint struct {
	Instance string            `json:"instance"`
	Addr     string            `json:"addr"`
	Version  string            `json:"version,omitempty"`
	Zone     string            `json:"zone,omitempty"`
	Weight   uint32            `json:"weight,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// encodeSnapshot returns the content of a snapshot file, or errSnapshotTooLarge.
func encodeSnapshot(s *saved, now time.Time) ([]byte, error) {
	file := snapshot{Saved: now.UTC(), Live: json.RawMessage(s.live), Endpoints: []json.RawMessage{}}
	size := 0 // stops before a large set has taken several times its memory
	for _, b := range s.set {
		text, err := json.Marshal(snapshotEndpoint(b.Endpoint))
		if err != nil {
			return nil, err
		}
		if size += len(text); size > maxSnapshot {
			return nil, errSnapshotTooLarge
		}
		file.Endpoints = append(file.Endpoints, text)
	}
	text, err := json.Marshal(file)
	if err == nil && len(text) > maxSnapshot {
		err = errSnapshotTooLarge
	}
	return text, err
}

// decodeSnapshot reads the content of a snapshot file, which is trusted no more than etcd: addresses are checked, and
// endpoints with one address are merged as entries in etcd are. The caller checks the live config.
func decodeSnapshot(text []byte) (s saved, at time.Time, err error) {
	var file snapshot
	if err := json.Unmarshal(text, &file); err != nil {
		return saved{}, time.Time{}, err
	}
	items := make([]*item, len(file.Endpoints))
	for i, text := range file.Endpoints {
		var e snapshotEndpoint
		if err := json.Unmarshal(text, &e); err != nil {
			return saved{}, time.Time{}, fmt.Errorf("endpoint %d: %w", i, err)
		}
		if err := endpoint.CheckAddr(e.Addr, true); err != nil {
			return saved{}, time.Time{}, fmt.Errorf("endpoint %d: %w", i, err)
		}
		e.Instance = cmp.Or(e.Instance, e.Addr)
		items[i] = &item{Key: strconv.Itoa(i), Value: newBackend(endpoint.Endpoint(e), endpoint.EndpointJSON)}
	}
	return saved{set: new(merger).merge(items), live: string(file.Live)}, file.Saved, nil
}
