package inventory

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// TestAll_Owners checks to which service key each entry belongs.
func TestAll_Owners(t *testing.T) {
	const lease = 7587882123456789012
	for _, tc := range []struct {
		name, key, value string
		lease            int64
		want             string // "" if no service is found
	}{
		{"naming", "acme/user/a", `{"Addr":"10.0.0.7:80"}`, 1, "acme/user"},
		{"plain", "acme/user/a", "10.0.0.7:80", 1, "acme/user"},
		{"go-zero", "acme/user/7587882123456789012", "10.0.0.7:80", lease, "acme/user"},
		{"lease suffix", "hello7587882123456789012", "10.0.0.7:80", lease, "hello"},
		{"lease suffix after a digit", "hello27587882123456789012", "10.0.0.7:80", lease, "hello2"},
		{"lease suffix below a slash", "acme/hello7587882123456789012", "10.0.0.7:80", lease,
			"acme/hello"},
		{"an instance that ends in its lease", "acme/user/a7587882123456789012",
			`{"Addr":"10.0.0.7:80"}`, lease, "acme/user"},
		{"an instance that is named by its host and its lease",
			"acme/user/host0-7587882123456789012", "10.0.0.7:80", lease, "acme/user"},
		{"lease suffix after a dash", "hello-7587882123456789012", "10.0.0.7:80", lease, "hello-"},
		{"leading slash", "/services/user/a", "10.0.0.7:80", 1, "/services/user"},
		{"home-made, named by its address", "acme/user/10.0.0.7:80", `{"endpoint":"10.0.0.7:80"}`,
			0, "acme/user"},
		{"a setting", "acme/user/a", `{"endpoint":"10.0.0.7:80"}`, 0, ""},
		{"a deletion in etcd's naming", "acme/user/a", `{"Op":1,"Addr":"10.0.0.7:80"}`, 1, ""},
		{"kitex' on a socket", "acme/user/a", `{"network":"unix","address":"10.0.0.7:80"}`, 1, ""},
		{"dubbo's that is not enabled", "acme/user/a",
			`{"ServiceName":"user","Host":"h","Port":80,"Enable":false}`, 1, ""},
		{"a key without a slash", "motd", "10.0.0.7:80", 0, ""},
		{"an empty service key", "/motd", "10.0.0.7:80", 0, ""},
		{"a value that is no address", "acme/user/a", "hello", 1, ""},
	} {
		services := All([]Entry{{Key: tc.key, Value: []byte(tc.value), Lease: tc.lease}})
		got := ""
		if len(services) == 1 && len(services[0].Instances) == 1 {
			got = services[0].Key
		}

		if got != tc.want {
			t.Errorf("%s: entry %q belongs to service %q, want %q", tc.name, tc.key, got, tc.want)
		}
	}
}

// TestAll_LongKeys uses keys so long that comparing each prefix of each key
// would take too long.
func TestAll_LongKeys(t *testing.T) {
	const addr, lease = "10.0.0.8:80", 7587882123456789013
	var entries []Entry
	for n := range 20 {
		entries = append(entries, Entry{Key: fmt.Sprintf("n%d/_grpc_config/x", n)},
			Entry{Key: fmt.Sprintf("s%d-%d", n, lease), Value: []byte(addr), Lease: lease})
	}

	entries = append(entries, Entry{Key: strings.Repeat("a/", 1<<20) + "x", Value: []byte(addr)},
		Entry{Key: "a" + strings.Repeat("1", 2<<20), Value: []byte(addr)})
	if n := len(All(entries)); n < 20 {
		t.Errorf("All() finds %d services, want at least 20", n)
	}
}

// A value larger than clients read is cut to its head, and Size records its
// length.
func TestEntry_Shortened(t *testing.T) {
	e := (Entry{
		Key:   "registry/pods/a",
		Value: append([]byte("k8s"), make([]byte, 5000)...),
	}).Shortened()
	if len(e.Value) != maxHead || e.Size != 5003 {
		t.Errorf("of a foreign value of %d bytes %d are kept, want %d of 5003", e.Size,
			len(e.Value), maxHead)
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
		{ConfigPrefix + "acme/user", 1_400_000,
			"the service config has 1400000 bytes, more than 262144"},
	} {
		e := Entry{
			Key:   c.key,
			Lease: 7,
			Value: append([]byte("{"), bytes.Repeat([]byte("x"), c.size-1)...),
		}.Shortened()

		s := &Service{Key: "acme/user"}
		var err error

		if strings.Contains(c.key, ConfigPrefix) {
			s.Config = &e
			_, err = s.Live()
		} else {
			s.Add(e)
			err = s.Malformed[0].Err
		}

		if c.want != "" && (err == nil || err.Error() != c.want || len(e.Value) > maxHead) ||
			c.want == "" && (e.Size != 0 || len(e.Value) != c.size) {
			t.Errorf("%s: of %d bytes %d are kept, error %v, want %q", c.key, c.size, len(e.Value),
				err, c.want)
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
		{"a malformed entry whose key ends in the lease id", true,
			map[string]string{"hello@": "10.0.0.1"}},
		{"a counter for a caller", false, map[string]string{"limits/10.0.0.1:7000": "17"}},
		{"a kratos entry without a gRPC endpoint", true, map[string]string{
			"acme/user/a": `{"id":"a","name":"user","endpoints":["http://10.0.0.1:80"]}`,
		}},
		{"a go-micro entry without nodes", true,
			map[string]string{"acme/user/a": `{"name":"user","nodes":[]}`}},
		{"a cut kitex entry", true,
			map[string]string{"acme/user/a": `{"network":"tcp","address":"10.0`}},
		{"another program's cut JSON, or JSON within which an address is", false,
			map[string]string{"acme/a": `{"state":"runn`, "acme/b": `{"conn":{"address":"x"}}`}},
		{"a json_layout's entry by this project's server", true, map[string]string{
			"acme/user/a": `{"endpoint":"10.0.0.1:80","labels":{"grpc_started":"1767225600"}}`,
		}},
		{"a live config", true, map[string]string{"_grpc_config/acme/user": "{}"}},
		{"a candidate for the leader", true, map[string]string{"_grpc_leader/acme/user//a": "a"}},
	} {
		var entries []Entry
		for key, value := range tt.all {
			entries = append(entries, Entry{
				Key:   strings.ReplaceAll(key, "@", strconv.FormatInt(lease, 10)),
				Value: []byte(value),
				Lease: lease,
			})
		}

		evident := slices.ContainsFunc(All(entries), (*Service).Evident)
		if evident != tt.want {
			t.Errorf("%s: a service is evident: %v, want %v", tt.name, evident, tt.want)
		}
	}
}
