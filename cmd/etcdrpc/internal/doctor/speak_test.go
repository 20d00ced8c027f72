package doctor

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

func TestMisspoken(t *testing.T) {
	for _, tt := range []struct{ first, want string }{
		{"", "accepts connections, but answers neither HTTP/2 nor TLS"},
		{"\x00\x00\x00\x04\x00\x00\x00\x00\x00", ""},
		{"HTTP/1.1 400 Bad Request\r\n", "speaks HTTP/1, not HTTP/2"},
		{"SSH-2.0-OpenSSH_9.6\r\n", `answers HTTP/2 with "SSH-2.0-OpenSSH_9.6\r\n"`},
	} {
		if got := misspoken([]byte(tt.first)); got.what != tt.want || got.mute != (tt.want == "") {
			t.Errorf("%q: %+v, want %q", tt.first, got, tt.want)
		}
	}
}

// TestSpeak_Silent counts the connections to a port that says nothing: one without TLS, one with it, and one to hear what it says.
func TestSpeak_Silent(t *testing.T) {
	var dials atomic.Int32
	s := speaker{timeout: 20 * time.Millisecond, dial: func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		ours, theirs := net.Pipe()
		t.Cleanup(func() { theirs.Close() })
		return ours, nil
	}}
	heard := s.speakAll(t.Context(), []partner{{spot: spot{"acme/user", "10.0.0.7:9000"}, tlsName: "acme.user"}})[spot{"acme/user", "10.0.0.7:9000"}]
	if want := "accepts connections, but answers neither HTTP/2 nor TLS"; heard.what != want || dials.Load() != 3 {
		t.Errorf("%+v after %d connections", heard, dials.Load())
	}
}
