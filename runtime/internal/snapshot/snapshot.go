// Package snapshot keeps the last known endpoints of a service on disk, one file a key, readable by
// people, so that a process that starts while etcd is away knows where to go.
package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

const (
	format  = 1
	maxFile = 64 << 20 // bytes that are read at the most
	maxName = 200      // bytes of a file's name, which file systems bound at 255
)

// file is what is written. Sum is over Endpoints as they stand between the brackets, spaces aside.
type file struct {
	Format    int             `json:"format"`
	Key       string          `json:"key"`
	Saved     time.Time       `json:"saved"`
	Sum       string          `json:"sha256"`
	Endpoints json.RawMessage `json:"endpoints"`
}

type entry struct {
	Instance string            `json:"instance"`
	Addr     string            `json:"addr"`
	Version  string            `json:"version,omitempty"`
	Zone     string            `json:"zone,omitempty"`
	Weight   uint32            `json:"weight,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// Path is the file for a key below dir.
func Path(dir, key string) string {
	name := url.QueryEscape(key)
	if len(name) > maxName {
		sum := sha256.Sum256([]byte(key))
		name = name[:maxName-33] + "-" + hex.EncodeToString(sum[:16])
	}
	return filepath.Join(dir, name+".json")
}

// Save writes the endpoints of a key. A reader sees the old file or the new one, never a part.
func Save(dir, key string, endpoints []endpoint.Endpoint, now time.Time) error {
	entries := make([]entry, len(endpoints))
	for i, e := range endpoints {
		entries[i] = entry(e)
	}
	list, err := json.Marshal(entries)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(file{format, key, now.UTC().Truncate(time.Second), sum(list), list}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return replace(Path(dir, key), append(text, '\n'))
}

func replace(path string, text []byte) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp.Name()))
		}
	}()
	_, err = temp.Write(text)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}

// Load reads the endpoints of a key and when they were saved. Without a file the error is
// fs.ErrNotExist; a file that is not as it was written is an error too.
func Load(dir, key string) (endpoints []endpoint.Endpoint, saved time.Time, err error) {
	path := Path(dir, key)
	info, err := os.Stat(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	if info.Size() > maxFile {
		return nil, time.Time{}, fmt.Errorf("%s: %d bytes, more than %d", path, info.Size(), maxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	endpoints, saved, err = parse(text, key)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", path, err)
	}
	return endpoints, saved, nil
}

func parse(text []byte, key string) ([]endpoint.Endpoint, time.Time, error) {
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, time.Time{}, err
	}
	var list bytes.Buffer
	if err := json.Compact(&list, f.Endpoints); err != nil {
		return nil, time.Time{}, err
	}
	switch {
	case f.Format != format:
		return nil, time.Time{}, fmt.Errorf("format %d, want %d", f.Format, format)
	case f.Key != key:
		return nil, time.Time{}, fmt.Errorf("it is of key %q, not %q", f.Key, key)
	case f.Sum != sum(list.Bytes()):
		return nil, time.Time{}, errors.New("the checksum does not match: the file was damaged or edited")
	}
	var entries []entry
	if err := json.Unmarshal(list.Bytes(), &entries); err != nil {
		return nil, time.Time{}, err
	}
	endpoints := make([]endpoint.Endpoint, len(entries))
	for i, e := range entries {
		endpoints[i] = endpoint.Endpoint(e)
		if err := endpoint.CheckAddr(e.Addr, true); err != nil {
			return nil, time.Time{}, err
		}
	}
	return endpoints, f.Saved, nil
}

func sum(text []byte) string {
	s := sha256.Sum256(text)
	return hex.EncodeToString(s[:])
}
