package connectetcd

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// frame returns a message as it stands in a body.
func frame(flags byte, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(message))), message...)
}

// FuzzKey calls under keys as protos have them: the URL of each is one that Connect takes, with the method as its path.
func FuzzKey(f *testing.F) {
	for _, key := range []string{"acme/user", "/acme/user/", "", "acme/library:v2", "acme/library@eu", "acme/100%", "a#b", "a?b", "a/[x", "acme/Bücherei", "a|b"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		const method = grpc_health_v1.Health_Check_FullMethodName
		got, err := url.ParseRequestURI(baseURL(key) + method)
		if err != nil || got.Path != method || got.RawQuery != "" {
			t.Fatalf("%q: %v, %v", key, got, err)
		}
	})
}

// FuzzRequest reads bodies as Connect's clients, or anyone, write them. An uncompressed body is written the
// same again, and no length makes it take memory that the body has not.
func FuzzRequest(f *testing.F) {
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	if _, err := writer.Write([]byte("message")); err != nil {
		f.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(frame(0, nil))
	f.Add(frame(0, []byte("message")))
	f.Add(append(frame(0, []byte("one")), frame(0, []byte("two"))...))
	f.Add(frame(compressedFlag, packed.Bytes()))
	f.Add(frame(compressedFlag, []byte("no gzip")))
	f.Add(frame(2, []byte("end of a stream")))
	f.Add([]byte{0, 255, 255, 255, 255, 1})
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := http.NewRequest(http.MethodPost, "http://any/acme.Greeter/Greet", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/grpc+proto")
		req.Header.Set("Grpc-Encoding", "gzip")
		c, err := newCall(req)
		if err != nil {
			t.Fatal(err)
		}
		var again []byte
		compressed := false
		for rest := body; ; {
			message, err := c.nextMessage()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return
			}
			compressed = compressed || rest[0] == compressedFlag
			rest = rest[prefixLen+int(binary.BigEndian.Uint32(rest[1:])):]
			again = append(again, frame(0, message)...)
		}
		if !compressed && !bytes.Equal(again, body) {
			t.Errorf("%q is written again as %q", body, again)
		}
	})
}

// FuzzMetadata converts any header of a request to metadata and back, with a second header that must not change.
func FuzzMetadata(f *testing.F) {
	f.Add("Name", "value")
	f.Add("name-bin", connect.EncodeBinaryHeader([]byte{0, 255}))
	f.Add("Name-Bin", "AAA=, AQ")
	f.Add("Name-Bin", "no base64!")
	f.Add("grpc-timeout", "1S")
	f.Fuzz(func(t *testing.T, name, value string) {
		md, _ := toMetadata(http.Header{name: {value}, "Beside": {"red"}}) // after an error the rest is there
		if !slices.Contains(md["beside"], "red") {
			t.Errorf("beside %q: %q the rest is %q", name, value, md)
		}
		back := make(http.Header)
		addMetadata(back, md)
		md2, err := toMetadata(back)
		if err != nil {
			t.Fatalf("%q: %v", back, err)
		}
		for key, values := range md {
			if !slices.Equal(values, md2[key]) {
				t.Errorf("%q became %q", md, md2)
			}
		}
	})
}
