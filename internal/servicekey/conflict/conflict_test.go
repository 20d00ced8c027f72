package conflict

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

func TestOuter(t *testing.T) {
	keys := map[string]bool{"a": true, "a/b": true, "a/b/c1": true}
	wanted := func(key string) bool { return keys[key] }
	for _, tt := range []struct {
		key  string
		kind servicekey.Overlap
		want string
	}{
		{"a/b/c1/d", servicekey.Nested, "a/b/c1"},
		{"a/b/c12", servicekey.Nested, "a/b"},
		{"a/b/c12", servicekey.Continued, "a/b/c1"},
		{"a/b", servicekey.Nested, "a"},
		{"a", servicekey.Nested, ""},
		{"b/a", servicekey.Nested, ""},
	} {
		if got := Outer(tt.key, tt.kind, wanted); got != tt.want {
			t.Errorf("Outer(%q, %v) = %q, want %q", tt.key, tt.kind, got, tt.want)
		}
	}
}

// TestTLSName checks the host that TLS compares with certificates.
func TestTLSName(t *testing.T) {
	for _, tt := range []struct{ key, authority, want string }{
		{"acme/user", "", "acme.user"},
		{"/acme/user", "", "acme.user"},
		{"Acme/User", "", "acme.user"},
		// the authority takes precedence over the key
		{"acme/user", "user.acme.com", "user.acme.com"},
		{"ключ", "user.acme.com", "user.acme.com"},
		{"acme/user", "User.Acme.Com", "user.acme.com"},
		// a certificate has the host without the port
		{"acme/user", "user.acme.com:8443", "user.acme.com"},
		{"acme/user", "user.acme.com.", "user.acme.com"},
		{"acme/user", "10.0.0.7:443", "10.0.0.7"},
		{"acme/user", "[2001:DB8:0::7]:443", "2001:db8::7"},
		{"acme/user", "[::ffff:10.0.0.7]", "10.0.0.7"},
		{"", "", ""},
		{"ключ", "", ""},
		{"acme/user", "no host", ""},
		{"acme/user", "user.acme.com:0", ""},
	} {
		if got := TLSName(tt.key, tt.authority); got != tt.want {
			t.Errorf("TLSName(%q, %q) = %q, want %q", tt.key, tt.authority, got, tt.want)
		}
	}
}
