// Package endpointfile keeps the last known endpoints and live configs of services on disk, in a readable file for
// each key and etcd cluster, so that a process that starts while etcd is away can use them.
package endpointfile

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

const (
	format  = 2
	maxFile = 64 << 20 // bytes of a file; a larger one is neither written nor read
	maxName = 200      // bytes of a file's name before the cluster; file systems allow 255 in all
)

// Source says where endpoints are from. Two clusters, or two namespaces of one, never share a file, so
// several processes may use one directory.
type Source struct {
	Cluster uint64   // the etcd cluster's id; 0: not known
	Members []string // URL or host:port of some of the cluster's members
	Range   string   // the range of etcd keys, with the namespace
}

// Snapshot is what is kept of a range.
type Snapshot struct {
	Endpoints []endpoint.Endpoint
	Live      string // the live service config in force, as JSON, which nobody checks here; "": none, or not known
	Saved     time.Time
}

// header is the beginning of a file.
type header struct {
	Format  int             `json:"format"`
	Cluster string          `json:"cluster"`
	Members []string        `json:"members"`
	Range   string          `json:"range"`
	Saved   time.Time       `json:"saved"`
	Live    json.RawMessage `json:"live_config,omitempty"` // older files have none
}

// file is the content of a file. Sum is the checksum of Live and Endpoints as compact JSON.
type file struct {
	header
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

// stem returns the beginning of the names of a range's files; the cluster follows.
func (s Source) stem() string {
	name := url.QueryEscape(s.Range)
	if len(name) > maxName {
		sum := sha256.Sum256([]byte(s.Range))
		name = name[:maxName-33] + "-" + hex.EncodeToString(sum[:16])
	}
	return name + "@"
}

// cluster returns a name for the cluster: its id or, if etcd's answers had none, as behind a proxy, a
// hash of its members.
func (s Source) cluster() string {
	if s.Cluster != 0 {
		return fmt.Sprintf("%016x", s.Cluster)
	}
	sum := sha256.Sum256([]byte(strings.Join(s.members(), ",")))
	return "m" + hex.EncodeToString(sum[:8])
}

// members returns the members as host:port, sorted.
func (s Source) members() []string {
	members := make([]string, len(s.Members))
	for i, m := range s.Members {
		if _, rest, ok := strings.Cut(m, "://"); ok {
			m = rest
		}
		members[i] = strings.TrimSuffix(m, "/")
	}
	slices.Sort(members)
	return members
}

// path returns the file below dir that Save writes.
func (s Source) path(dir string) string {
	return filepath.Join(dir, s.stem()+s.cluster()+".json")
}

// ErrTooLarge is an error of Save that trying again does not mend.
var ErrTooLarge = errors.New("the file would have more")

// Save writes the snapshot of a range. Readers see the old file or the new one, never a part of one. If the new one
// would be too large to be read, it is an error and the old file stays.
func Save(dir string, source Source, snapshot Snapshot) error {
	return save(dir, source, snapshot, maxFile)
}

func save(dir string, source Source, snapshot Snapshot, limit int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return replace(source.path(dir), func(w io.Writer) error {
		buffered := bufio.NewWriter(&bounded{w, limit, limit})
		return errors.Join(write(buffered, source, snapshot), buffered.Flush())
	})
}

// write writes a file endpoint by endpoint: as a whole, a large one would cost several times its size.
func write(w io.Writer, source Source, snapshot Snapshot) error {
	h := header{
		Format: format, Cluster: source.cluster(), Members: source.members(), Range: source.Range,
		Saved: snapshot.Saved.UTC(),
	}
	sum := sha256.New()
	if snapshot.Live != "" {
		live, err := json.Marshal(json.RawMessage(snapshot.Live)) // makes it compact
		if err != nil {
			return err
		}
		h.Live = live
		sum.Write(live)
	}
	head, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "%s,\n  \"endpoints\": [", bytes.TrimSuffix(head, []byte("\n}"))); err != nil {
		return err
	}
	sum.Write([]byte("["))
	separator := ""
	for _, e := range snapshot.Endpoints {
		text, err := json.Marshal(entry(e))
		if err != nil {
			return err
		}
		sum.Write([]byte(separator))
		sum.Write(text)
		if _, err := fmt.Fprintf(w, "%s\n    %s", separator, text); err != nil {
			return err
		}
		separator = ","
	}
	sum.Write([]byte("]"))
	_, err = fmt.Fprintf(w, "],\n  \"sha256\": %q\n}\n", hex.EncodeToString(sum.Sum(nil)))
	return err
}

// bounded is a writer that fails after limit bytes.
type bounded struct {
	w           io.Writer
	limit, left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, fmt.Errorf("%w than %d bytes", ErrTooLarge, b.limit)
	}
	return b.w.Write(p)
}

// replace writes a file under another name, and then renames it.
func replace(path string, write func(io.Writer) error) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp.Name()))
		}
	}()
	if err = errors.Join(write(temp), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}

// Load returns the snapshot of a range. It does not look at source.Cluster,
// which nobody knows while etcd is away: of the range's files whose cluster has a member in common with
// source, it takes the newest. If there is none, the error is fs.ErrNotExist. A damaged file is an error
// only if no other file can be used.
func Load(dir string, source Source) (Snapshot, error) {
	return load(dir, source, maxFile)
}

func load(dir string, source Source, limit int64) (newest Snapshot, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Snapshot{}, err
	}
	found, errs := false, []error(nil)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), source.stem()) || !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		s, err := read(path, source, limit)
		switch {
		case errors.Is(err, errOtherCluster):
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		case !found || s.Saved.After(newest.Saved):
			newest, found = s, true
		}
	}
	switch {
	case found:
		return newest, nil
	case len(errs) > 0:
		return Snapshot{}, errors.Join(errs...)
	}
	return Snapshot{}, fs.ErrNotExist
}

var errOtherCluster = errors.New("it is of another etcd cluster")

func read(path string, source Source, limit int64) (Snapshot, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return Snapshot{}, err
	case !info.Mode().IsRegular():
		return Snapshot{}, errors.New("it is no regular file")
	case info.Size() > limit:
		return Snapshot{}, fmt.Errorf("%d bytes, more than %d", info.Size(), limit)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Snapshot{}, err
	}
	return parse(text, source)
}

func parse(text []byte, source Source) (Snapshot, error) {
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return Snapshot{}, err
	}
	var live, list bytes.Buffer
	if f.Live != nil {
		if err := json.Compact(&live, f.Live); err != nil {
			return Snapshot{}, err
		}
	}
	if err := json.Compact(&list, f.Endpoints); err != nil {
		return Snapshot{}, err
	}
	switch {
	case f.Format != format:
		return Snapshot{}, fmt.Errorf("format %d, want %d", f.Format, format)
	case f.Range != source.Range:
		return Snapshot{}, fmt.Errorf("it is of range %q, not %q", f.Range, source.Range)
	case f.Sum != sum(live.Bytes(), list.Bytes()):
		return Snapshot{}, errors.New("the checksum does not match: the file was damaged or edited")
	case !slices.ContainsFunc(source.members(), func(m string) bool { return slices.Contains(f.Members, m) }):
		return Snapshot{}, errOtherCluster
	}
	var entries []entry
	if err := json.Unmarshal(list.Bytes(), &entries); err != nil {
		return Snapshot{}, err
	}
	endpoints := make([]endpoint.Endpoint, len(entries))
	for i, e := range entries {
		endpoints[i] = endpoint.Endpoint(e)
		if err := endpoint.CheckAddr(e.Addr, true); err != nil {
			return Snapshot{}, err
		}
	}
	return Snapshot{endpoints, live.String(), f.Saved}, nil
}

func sum(live, list []byte) string {
	s := sha256.New()
	s.Write(live)
	s.Write(list)
	return hex.EncodeToString(s.Sum(nil))
}
