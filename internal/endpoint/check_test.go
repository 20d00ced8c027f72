package endpoint

import (
	"strings"
	"testing"
)

// TestCheckInstance checks ids, and one key: package servicekey tests the rules
// of keys.
func TestCheckInstance(t *testing.T) {
	err := CheckKey("a/")
	if err == nil ||
		!strings.HasPrefix(err.Error(), `service key "a/" ends in a slash`) ||
		CheckKey("a/b") != nil {
		t.Errorf("CheckKey(a/) = %v, want an error about the slash, and CheckKey(a/b) = nil", err)
	}

	for _, id := range []string{
		"a", "1.2.3.4:80", "[::1]:80", "host-1_x", strings.Repeat("x", MaxInstance),
	} {
		if err := CheckInstance(id); err != nil {
			t.Errorf("CheckInstance(%q) = %v, want nil", id, err)
		}
	}

	for _, id := range []string{
		"", "a/b", "a b", "a\n", "\xff", strings.Repeat("x", MaxInstance+1),
	} {
		if err := CheckInstance(id); err == nil {
			t.Errorf("CheckInstance(%q) = nil, want an error", id)
		}
	}
}

func TestCheckAddr(t *testing.T) {
	for _, tt := range []struct {
		port, bare bool // whether the addresses are accepted with needPort, and without it
		addrs      []string
	}{
		{true, true, []string{
			"1.2.3.4:80", "host:65535", "my_host.local.:1", "[::1]:80",
			strings.Repeat("h", 253) + ":1",
		}},
		{false, true, []string{"1.2.3.4", "host", "::1", "[::1]"}},
		{false, false, []string{
			"", ":80", "host:", "host:0", "host:080", "h:1,h:2", "h\x00:1", "fe80::1:80:x",
			"unix-abstract:x", "[::1%lo]:80", "[1.2.3.4]:80", "[host]", "unix", "UNIX:80",
			"unix:/x", "passthrough:///h:1", "-h:1", ".h:1", "hé:1",
			strings.Repeat("h", 254) + ":1",
		}},
	} {
		for _, addr := range tt.addrs {
			if err := CheckAddr(addr, true); (err == nil) != tt.port {
				t.Errorf("CheckAddr(%q, true) = %v, want success %v", addr, err, tt.port)
			}

			if err := CheckAddr(addr, false); (err == nil) != tt.bare {
				t.Errorf("CheckAddr(%q, false) = %v, want success %v", addr, err, tt.bare)
			}
		}
	}
}
