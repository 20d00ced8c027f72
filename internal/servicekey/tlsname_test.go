package servicekey

import "testing"

// TestTLSName checks the name that certificates are checked against.
func TestTLSName(t *testing.T) {
	for _, tt := range []struct{ key, authority, want string }{
		{"acme/user", "", "acme.user"},
		{"/acme/user", "", "acme.user"},
		{"Acme/User", "", "acme.user"},
		{"acme/user", "user.acme.com", "user.acme.com"}, // the authority takes precedence over the key
		{"ключ", "user.acme.com", "user.acme.com"},
		{"acme/user", "User.Acme.Com", "user.acme.com"},
		{"acme/user", "user.acme.com:8443", "user.acme.com"}, // a certificate has the host without the port
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
