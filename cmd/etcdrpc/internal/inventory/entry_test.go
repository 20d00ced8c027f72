package inventory

import (
	"bytes"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// A value larger than clients read is cut to its head, and Size records its length.
func TestEntry_Shortened(t *testing.T) {
	if e := (Entry{Key: "registry/pods/a", Value: append([]byte("k8s"), make([]byte, 5000)...)}).Shortened(); len(e.Value) != maxPlainHead || e.Size != 5003 {
		t.Errorf("%d bytes of a foreign value: %d are kept", e.Size, len(e.Value))
	}
	for _, c := range []struct {
		key  string
		size int
		want string // "": the value is kept whole
	}{
		{"acme/user/a", endpoint.MaxValue, ""},
		{"acme/user/a", endpoint.MaxValue + 1, "65537 bytes, more than 65536"},
		{"acme/user/a", 1_400_000, "1400000 bytes, more than 65536"},
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
			t.Errorf("%s of %d bytes keeps %d: %v", c.key, c.size, len(e.Value), err)
		}
	}
}
