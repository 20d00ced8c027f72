package discovery

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// maxSnapshot bounds a snapshot file, in bytes, both when it is written and when it is read.
const maxSnapshot = 32 << 20

var errSnapshotTooLarge = fmt.Errorf("the snapshot has more than %d bytes", maxSnapshot)

// snapshot is the content of a snapshot file.
type snapshot struct {
	snapshotHead
	Endpoints []snapshotEndpoint `json:"endpoints"`
}

type snapshotHead struct {
	Saved time.Time       `json:"saved"`
	Live  json.RawMessage `json:"live_config,omitempty"`
}

type snapshotEndpoint struct {
	Instance string            `json:"instance"`
	Addr     string            `json:"addr"`
	Version  string            `json:"version,omitempty"`
	Zone     string            `json:"zone,omitempty"`
	Weight   uint32            `json:"weight,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// writeSnapshot writes the content of a snapshot file, endpoint by endpoint: encoding a large one as a whole takes several
// times its size.
func writeSnapshot(to io.Writer, s *saved, now time.Time) error {
	head, err := json.Marshal(snapshotHead{now.UTC(), json.RawMessage(s.live)})
	if err != nil {
		return err
	}
	w := bufio.NewWriter(to) // keeps the first error for Flush
	_, _ = w.Write(append(head[:len(head)-1], `,"endpoints":[`...))
	separator, size := "", len(head)+len(`,"endpoints":[]`)
	for _, b := range s.set {
		text, err := json.Marshal(snapshotEndpoint(b.Endpoint))
		if err != nil {
			return err
		}
		if size += len(separator) + len(text); size > maxSnapshot {
			return errSnapshotTooLarge
		}
		_, _ = w.WriteString(separator)
		_, _ = w.Write(text)
		separator = ","
	}
	_, _ = w.WriteString("]}")
	return w.Flush()
}

// decodeSnapshot parses the content of a snapshot file, which is trusted as little as etcd: addresses are checked, and
// endpoints with one address are merged like entries in etcd. The caller checks the live config.
func decodeSnapshot(text []byte) (s saved, at time.Time, err error) {
	var file snapshot
	if err := json.Unmarshal(text, &file); err != nil {
		return saved{}, time.Time{}, err
	}
	items := make([]*item, len(file.Endpoints))
	for i, e := range file.Endpoints {
		if err := endpoint.CheckAddr(e.Addr, true); err != nil {
			return saved{}, time.Time{}, fmt.Errorf("endpoint %d: %w", i, err)
		}
		e.Instance = cmp.Or(e.Instance, e.Addr)
		items[i] = &item{Key: strconv.Itoa(i), Value: newBackend(endpoint.Endpoint(e), endpoint.EndpointJSON)}
	}
	set, _ := new(merger).merge(items)
	return saved{set: set, live: string(file.Live)}, file.Saved, nil
}
