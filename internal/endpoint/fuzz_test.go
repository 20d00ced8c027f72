package endpoint

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// FuzzDecodeValue reads a value at a key of each kind: under an instance id, a
// lease id or an address.
func FuzzDecodeValue(f *testing.F) {
	for _, tt := range decoded {
		f.Add([]byte(tt.value))
	}

	for value := range malformed {
		f.Add([]byte(value))
	}

	for _, value := range []string{ // entries in mappedLayouts
		`{"a":"h:1","m":{"weight":"x","zone":"z"},"w":2.5,"i":"/"}`,
		`{"h":"h","p":1,"w":0,"m":{"weight":"5"}}`,
		`{"h":"::1","p":"80","w":"7","v":1,"z":{}}`,
	} {
		f.Add([]byte(value))
	}

	for _, s := range samples {
		f.Add([]byte(s.value))
	}

	f.Fuzz(func(t *testing.T, value []byte) {
		checkDecoded(t, reader, "svc", "svc/a", value, 0)
		checkDecoded(t, reader, "svc", "svc/12", value, 12) // go-zero
		checkDecoded(t, reader, "svc", "svc12", value, 12)  // lease suffix
		checkDecoded(t, reader, "svc", "svc/h:1", value, 0) // GoFrame

		for _, l := range mappedLayouts {
			checkDecoded(t, Reader{JSON: l}, "svc", "svc/a", value, 0)
		}
	})
}

// FuzzRoundTrip writes endpoints in every layout, including home-made JSON with
// fuzzed field names, and reads them back with each reader that can read the
// layout.
func FuzzRoundTrip(f *testing.F) {
	f.Add("a", "h:1", "v2", "z", uint32(7), "k", "v", "at", "ver", "w", "labels")
	f.Add("10.0.0.7:9000", "10.0.0.7:9000", "", "", uint32(0), "weight", "heavy", "addr", "Addr",
		"weight", "metadata")
	f.Add("i", "h:80", "<v>", "\u2028", uint32(1), "address", "h:2", "адрес", "\x00", "node.w", "")
	f.Add("i", "h", "", "", uint32(0), "nodes", "[]", "nodes", "endpoints", "", "address")
	f.Add("i", "h:1", "", "", uint32(0), strings.Repeat("\xff", 2000), "v", "a", "", "", "")
	f.Add("i", "[::1]:80", `v"2`, "<z>", uint32(7), "metadata", `"x"`, "$.addr", "ADDR", "addr",
		"null")
	f.Add("7", "h:1", "v", "", uint32(4294967295), "grpc_leaving", "true", "a", "", "a", "")

	f.Fuzz(func(
		t *testing.T,
		instance, addr, version, zone string,
		weight uint32,
		name, value, at, ver, w, labels string,
	) {
		const lease = 7
		if CheckInstance(instance) != nil || instance == strconv.Itoa(lease) {
			return
		}

		e := Endpoint{
			Instance: instance,
			Addr:     addr,
			Version:  version,
			Zone:     zone,
			Weight:   weight,
			Metadata: map[string]string{name: value},
		}

		mapped := MappedJSON(JSONFields{Addr: at, Version: ver, Weight: w, Metadata: labels})
		readers := []Reader{reader, {}}
		for _, l := range append([]Layout{mapped}, mappedLayouts...) {
			if r, err := NewReader(l, LeaseSuffix); err == nil {
				readers = append(readers, r)
			}
		}

		for _, layout := range append(slices.Concat(Layouts(), mappedLayouts), mapped) {
			written, err := layout.Encode("svc", e)
			checkError(t, err)

			if err != nil {
				continue
			}

			for _, r := range readers {
				if r.means(layout, written) {
					checkRead(t, r, layout, e, lease, written)
				}
			}
		}
	})
}

// means reports whether r can read an entry written in a layout. Some layouts
// are read only if r enables them. The home-made JSON of r must find no address
// in the entry, unless the home-made JSON has the address fields of the layout
// and renames no other field of the entry.
func (r Reader) means(layout Layout, written []byte) bool {
	switch {
	case layout == LeaseSuffix:
		return r.LeaseSuffix
	case layout.mapped():
		return r.JSON == layout
	case !layout.json || !r.JSON.mapped():
		return true
	}

	fields := r.JSON.fields.Value()
	own := fields.document(written)
	if !own.located() {
		return true
	}

	_, shared, _ := fields.shared(own, written)

	rest := fields
	rest.Addr = ""
	rest.Host = ""
	rest.Port = ""

	renamed := false
	rawjson.Members(written, func(name, _ []byte) bool {
		renamed = renamed || rest.names(string(name))
		return true
	})

	return shared == layout && !renamed
}

// checkRead reads an entry back and compares the fields that the layout can
// carry.
func checkRead(t *testing.T, r Reader, layout Layout, e Endpoint, lease int64, written []byte) {
	t.Helper()

	want := e
	want.Addr = withPort(e.Addr)
	if layout.ends != atInstance {
		want.Instance = e.Addr
	}

	if !layout.Metadata() {
		want.Metadata = nil
		want.Zone = ""

		var fields JSONFields
		if layout.mapped() {
			fields = layout.fields.Value()
		}

		if fields.Version == "" {
			want.Version = ""
		}

		if fields.Weight == "" {
			want.Weight = 0
		}
	}

	got, gotLayout, ok, err := r.Decode("svc", layout.Key("svc", e, lease), written, lease)
	if err != nil || !ok || gotLayout != layout || !got.Equal(want) {
		t.Fatalf("wrote %s\nfor %+v in %v\nread %+v in %v, ok %v, error %v, with the reader %+v",
			written, e, layout, got, gotLayout, ok, err, r)
	}
}

// mappedLayouts are layouts of home-made JSON.
var mappedLayouts = []Layout{
	MappedJSON(JSONFields{Addr: "a", Instance: "i", Metadata: "m", Name: "n"}),
	MappedJSON(JSONFields{
		Host:     "h",
		Port:     "p",
		Version:  "v",
		Zone:     "z",
		Weight:   "w",
		Metadata: "m",
	}),
}

// FuzzDecodeKey reads entries at any key. It checks that the key of a decoded
// endpoint is the key that was read, and that no other service reads the entry
// unless the service keys overlap.
func FuzzDecodeKey(f *testing.F) {
	f.Add("svc", "svc/a", int64(0), "other")
	f.Add("svc", "svc12", int64(12), "svc1")
	f.Add("svc", "svc/12", int64(12), "svc/1")
	f.Add("/services/user", "/services/user/10.0.0.7:9000", int64(0), "services/user")
	f.Add("a", "a/\xff\n", int64(-1), "a-b")

	f.Fuzz(func(t *testing.T, key, etcdKey string, lease int64, other string) {
		if CheckKey(key) != nil {
			return
		}

		checkDecoded(t, reader, key, etcdKey, []byte("h:1"), lease)
		e, layout, ok, err := reader.Decode(key, etcdKey, []byte("h:1"), lease)
		checkError(t, err)

		if !ok || err != nil {
			return
		}

		if again := layout.Key(key, e, lease); again != etcdKey {
			t.Fatalf("%q decodes to %s %+v, whose key is %q, want the same key",
				etcdKey, layout, e, again)
		}

		from, end := Reader{LeaseSuffix: layout == LeaseSuffix}.Range(key)
		if etcdKey < from && layout != LeaseSuffix || etcdKey >= end {
			t.Fatalf("%q is an entry of %q, but is not from %q to %q", etcdKey, key, from, end)
		}

		if CheckKey(other) != nil ||
			other == key ||
			servicekey.OverlapOf(other, key, true) != servicekey.NoOverlap ||
			servicekey.OverlapOf(key, other, true) != servicekey.NoOverlap {
			return
		}

		if _, _, ok, _ := reader.Decode(other, etcdKey, []byte("h:1"), lease); ok {
			t.Fatalf("%q is an entry of %q and also of %q", etcdKey, key, other)
		}
	})
}

// checkDecoded decodes an entry. If the entry is accepted, checkDecoded encodes
// the endpoint, decodes the result and compares the two endpoints.
func checkDecoded(t *testing.T, reader Reader, key, etcdKey string, value []byte, lease int64) {
	t.Helper()

	e, layout, ok, err := reader.Decode(key, etcdKey, value, lease)
	checkError(t, err)

	if err != nil || !ok {
		return
	}

	// All parsers must find the same host and port.
	host, port, err := net.SplitHostPort(e.Addr)
	if err != nil || host == "" || strings.EqualFold(host, "unix") {
		t.Fatalf("accepted the address %q: host %q, %v", e.Addr, host, err)
	}

	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port {
		t.Fatalf("accepted the address %q, with the port %q", e.Addr, port)
	}

	u, err := url.Parse("grpc://" + e.Addr)
	if err != nil || u.Host != e.Addr || u.Port() != port || u.User != nil {
		t.Fatalf("accepted the address %q, which net/url parses as %+v, %v", e.Addr, u, err)
	}

	if canonical := net.JoinHostPort(host, port); canonical != e.Addr {
		t.Fatalf("accepted the address %q, whose canonical form is %q", e.Addr, canonical)
	}

	size := len(e.Version) + len(e.Zone)
	for name, text := range e.Metadata {
		size += len(name) + len(text)
	}

	if size > len(value)+len("metadata") || len(value) > MaxValue {
		t.Fatalf("a value of %d bytes gives an endpoint of %d bytes", len(value), size)
	}

	if layout == Dubbo {
		return // the layout is not written
	}

	again, err := layout.Encode(key, e)
	if err != nil {
		// Escapes can lengthen a value beyond the limit.
		if len(value) > MaxValue/12 {
			return
		}

		t.Fatalf("accepted %+v, which cannot be encoded: %v", e, err)
	}

	if len(again) > MaxValue {
		t.Fatalf("wrote a value of %d bytes, want at most %d", len(again), MaxValue)
	}

	got, gotLayout, ok, err := reader.Decode(key, etcdKey, again, lease)
	if err != nil || !ok || gotLayout != layout || !got.Equal(e) {
		t.Fatalf("%s %+v\nencoded %s\ndecoded %s %+v, ok %v, error %v",
			layout, e, again, gotLayout, got, ok, err)
	}
}

// checkError checks that an error fits in a line of a log.
func checkError(t *testing.T, err error) {
	t.Helper()

	if err == nil {
		return
	}

	text := err.Error()
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	if len(text) > 1000 ||
		!utf8.ValidString(text) ||
		strings.ContainsFunc(text, unprintable) {
		t.Fatalf("the error is too long or not printable: %q", err)
	}
}
