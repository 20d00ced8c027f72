package inventory

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	_ "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// A value larger than clients read is cut to its head, and Size records its length.
func TestEntry_Shortened(t *testing.T) {
	if e := (Entry{Key: "registry/pods/a", Value: append([]byte("k8s"), make([]byte, 5000)...)}).Shortened(); len(e.Value) != maxHead || e.Size != 5003 {
		t.Errorf("of a foreign value of %d bytes %d are kept, want %d of 5003", e.Size, len(e.Value), maxHead)
	}
	for _, c := range []struct {
		key  string
		size int
		want string // error; "" if the value is kept whole
	}{
		{"acme/user/a", endpoint.MaxValue, ""},
		{"acme/user/a", endpoint.MaxValue + 1, "524289 bytes, more than 524288"},
		{"acme/user/a", 1_400_000, "1400000 bytes, more than 524288"},
		{ConfigPrefix + "acme/user", serviceconfig.MaxSize, ""},
		{"prod/" + ConfigPrefix + "acme/user", serviceconfig.MaxSize, ""},
		{ConfigPrefix + "acme/user", 1_400_000, "the service config has 1400000 bytes, more than 262144"},
	} {
		e := Entry{Key: c.key, Lease: 7, Value: append([]byte("{"), bytes.Repeat([]byte("x"), c.size-1)...)}.Shortened()
		s := &Service{Key: "acme/user"}
		var err error
		if strings.Contains(c.key, ConfigPrefix) {
			s.Config = &e
			_, err = s.Live()
		} else {
			s.Add(e)
			err = s.Malformed[0].Err
		}
		if c.want != "" && (err == nil || err.Error() != c.want || len(e.Value) > maxHead) || c.want == "" && (e.Size != 0 || len(e.Value) != c.size) {
			t.Errorf("%s: of %d bytes %d are kept, error %v, want %q", c.key, c.size, len(e.Value), err, c.want)
		}
	}
}

// TestEvident distinguishes services from keys of other programs.
func TestEvident(t *testing.T) {
	const lease = 1234567890123456789
	for _, tt := range []struct {
		name string
		want bool
		all  map[string]string // @ stands for the lease
	}{
		{"an address on a lease", true, map[string]string{"services/leader": "10.0.0.1:7000"}},
		{"a malformed entry whose key ends in the lease id", true, map[string]string{"hello@": "10.0.0.1"}},
		{"a counter for a caller", false, map[string]string{"limits/10.0.0.1:7000": "17"}},
		{"a live config", true, map[string]string{"_grpc_config/acme/user": "{}"}},
		{"a candidate for the leader", true, map[string]string{"_grpc_leader/acme/user//a": "a"}},
	} {
		var entries []Entry
		for key, value := range tt.all {
			entries = append(entries, Entry{Key: strings.ReplaceAll(key, "@", strconv.FormatInt(lease, 10)), Value: []byte(value), Lease: lease})
		}
		if evident := slices.ContainsFunc(All(entries), (*Service).Evident); evident != tt.want {
			t.Errorf("%s: a service is evident: %v, want %v", tt.name, evident, tt.want)
		}
	}
}
