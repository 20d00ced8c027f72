package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// ConfigPrefix is the prefix of the keys of live service configs.
const ConfigPrefix = servicekey.Reserved + "/"

// Entry is one key of etcd.
type Entry struct {
	Key            string
	Value          []byte // shortened to its head if no client reads the value
	Size           int    // of the whole value, in bytes; 0 if Value is the whole value
	Lease          int64
	CreateRevision int64
	ModRevision    int64
}

// Shortened returns the entry with only the head of a value that no client
// reads. Such a value exceeds the size limit, or is neither a JSON object nor
// as short as an address.
func (e Entry) Shortened() Entry {
	isRead := len(e.Value) <= e.sizeLimit() &&
		(e.isConfig() || bytes.HasPrefix(rawjson.SkipSpace(e.Value), []byte("{")))
	if !isRead && len(e.Value) > maxHead {
		e.Size = len(e.Value)
		e.Value = bytes.Clone(e.Value[:maxHead])
	}

	return e
}

// maxHead bounds the bytes kept of a value that no client reads. Addresses are
// shorter.
const maxHead = 1 << 10

// sizeLimit returns the size of the largest value that clients read at the key,
// in bytes.
func (e Entry) sizeLimit() int {
	if e.isConfig() {
		return serviceconfig.MaxSize
	}

	return endpoint.MaxValue
}

// isConfig reports whether the key is that of a live config, with or without a
// namespace.
func (e Entry) isConfig() bool {
	return strings.Contains("/"+e.Key, "/"+ConfigPrefix)
}

// checkSize returns an error if the value is larger than clients read.
func (e Entry) checkSize() error {
	if e.Size <= e.sizeLimit() {
		return nil
	}

	return fmt.Errorf("%d bytes, more than %d", e.Size, e.sizeLimit())
}

// Name returns the part of the key after its last slash.
func (e Entry) Name() string {
	return e.Key[strings.LastIndexByte(e.Key, '/')+1:]
}

// OwnerOf returns the key of the service that an entry belongs to: the part of
// the etcd key before the last slash. In the lease suffix layout, the etcd key
// ends in the id of the entry's lease without a separator. There, OwnerOf
// returns the part before the id.
func OwnerOf(e Entry) string {
	slash := max(strings.LastIndexByte(e.Key, '/'), 0)

	json := strings.HasPrefix(strings.TrimSpace(string(e.Value)), "{")
	if e.Lease != 0 && !json {
		separators := "/"
		if slash > 0 {
			separators = "/-_.:@"
		}

		stem, ok := strings.CutSuffix(e.Key, strconv.FormatInt(e.Lease, 10))
		if ok && stem != "" && !strings.ContainsAny(stem[len(stem)-1:], separators) {
			return stem
		}
	}

	return e.Key[:slash]
}

// leaderPrefix is the prefix of the keys of candidates for the leadership of
// services.
const leaderPrefix = servicekey.LeaderSegment + "/"

// Candidate is an instance that is a candidate for the leadership of a service.
type Candidate struct {
	candidate.First
	Instance string
	Lease    int64
}

func (c Candidate) compare(other Candidate) int {
	if c.Precedes(other.First) {
		return -1
	}

	return 1
}

// candidateOf returns the candidate that an entry records, and the key of its
// service.
func candidateOf(e Entry) (service string, c Candidate, ok bool) {
	name, ok := strings.CutPrefix(e.Key, leaderPrefix)
	if !ok {
		return "", Candidate{}, false
	}

	service, _, _ = strings.Cut(name, "//")
	kv := &mvccpb.KeyValue{Key: []byte(e.Key), Value: e.Value, Lease: e.Lease}
	instance, err := candidate.InstanceOf(candidate.Prefix(service), kv)
	first := candidate.First{Key: e.Key, Created: e.CreateRevision}

	return service, Candidate{first, instance, e.Lease}, err == nil
}

// IsCandidate reports whether key is that of a candidate for leadership, with
// or without a namespace. No other key with the prefix has a double slash.
func IsCandidate(key string) bool {
	_, rest, ok := strings.Cut("/"+key, "/"+leaderPrefix)
	return ok && strings.Contains(rest, "//")
}

// Evident reports whether the keys are those of a service, and not settings of
// another program: whether there is a live config, a candidate for leadership,
// an address on a lease, or an entry in a format that only servers write.
func (s *Service) Evident() bool {
	return s.Config != nil ||
		len(s.Candidates) > 0 ||
		slices.ContainsFunc(s.Instances, isServerEntry) ||
		slices.ContainsFunc(s.Malformed, isServerEntry) ||
		len(s.Instances) > 0 && endpoint.IsGoFrameKey(s.Key)
}

// addressField matches a field that has the address in some layout, in JSON
// that may be cut off.
var addressField = regexp.MustCompile(`(?s)^\s*\{.*"(address|endpoints|nodes|Host)"`)

// isServerEntry reports whether an entry is likely a server's.
//
// A well-formed entry is likely a server's if it is on a lease or its name is
// an address. A malformed entry is likely a server's if it is on a lease, and
// has the lease's name, the layout of a framework, an address in damaged JSON,
// or metadata of this project.
func isServerEntry(i Instance) bool {
	e := i.Entry
	if i.Err == nil {
		return e.Lease != 0 ||
			i.Layout != endpoint.GoFrame && endpoint.CheckAddr(e.Name(), true) == nil
	}

	if e.Lease == 0 {
		return false
	}

	text := string(e.Value)

	return strings.HasSuffix(e.Key, strconv.FormatInt(e.Lease, 10)) ||
		strings.Contains(i.Err.Error(), " entry: ") ||
		!json.Valid(e.Value) && addressField.Match(e.Value) ||
		strings.Contains(text, endpoint.StartedName) ||
		strings.Contains(text, endpoint.MethodsName) ||
		strings.Contains(text, `"Addr"`)
}
