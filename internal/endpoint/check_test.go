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
		addr       string
		port, bare bool // whether the address is accepted with needPort, and without it
	}{
		{"1.2.3.4:80", true, true},
		{"host:65535", true, true},
		{"my_host.local.:1", true, true},
		{"[::1]:80", true, true},
		{"1.2.3.4", false, true},
		{"host", false, true},
		{"::1", false, true},
		{"[::1]", false, true},
		{"", false, false},
		{":80", false, false},
		{"host:", false, false},
		{"host:0", false, false},
		{"host:080", false, false},
		{"h:1,h:2", false, false},
		{"h\x00:1", false, false},
		{"fe80::1:80:x", false, false},
		{"unix-abstract:x", false, false},
		{"[::1%lo]:80", false, false},
		{"[1.2.3.4]:80", false, false},
		{"[host]", false, false},
		{"unix", false, false},
		{"UNIX:80", false, false},
		{"unix:/x", false, false},
		{"passthrough:///h:1", false, false},
		{"-h:1", false, false},
		{".h:1", false, false},
		{"hé:1", false, false},
		{strings.Repeat("h", 253) + ":1", true, true},
		{strings.Repeat("h", 254) + ":1", false, false},
	} {
		if err := CheckAddr(tt.addr, true); (err == nil) != tt.port {
			t.Errorf("CheckAddr(%q, true) = %v, want success %v", tt.addr, err, tt.port)
		}

		if err := CheckAddr(tt.addr, false); (err == nil) != tt.bare {
			t.Errorf("CheckAddr(%q, false) = %v, want success %v", tt.addr, err, tt.bare)
		}
	}
}
