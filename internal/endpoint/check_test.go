package endpoint

import (
	"strings"
	"testing"
)

// The rules themselves are tested where they are, in package servicekey.
func TestCheckKey(t *testing.T) {
	if err := CheckKey("helloworld/greeter"); err != nil {
		t.Error(err)
	}
	for key, want := range map[string]string{
		"":                 `service key "" is empty`,
		"a/":               `service key "a/" ends in a slash`,
		"_grpc_config/abc": `service key "_grpc_config/abc" begins with the segment "_grpc_config"`,
	} {
		if err := CheckKey(key); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("CheckKey(%q) = %v, want an error that begins %s", key, err, want)
		}
	}
}

func TestCheckInstance(t *testing.T) {
	for _, id := range []string{"a", "1.2.3.4:80", "[::1]:80", "host-1_x", strings.Repeat("x", MaxInstance)} {
		if err := CheckInstance(id); err != nil {
			t.Errorf("CheckInstance(%q): %v", id, err)
		}
	}
	for _, id := range []string{"", "a/b", "a b", "a\n", "\xff", strings.Repeat("x", MaxInstance+1)} {
		if err := CheckInstance(id); err == nil {
			t.Errorf("CheckInstance(%q) = nil", id)
		}
	}
}

func TestCheckAddr(t *testing.T) {
	tests := []struct {
		addr       string
		port, bare bool // accepted with and without needPort
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
		{"host:65536", false, false},
		{"host:-1", false, false},
		{"host:08", false, false},
		{"host:http", false, false},
		{"host:+80", false, false},
		{"h:1,h:2", false, false},
		{"h\x00:1", false, false},
		{"\xff:1", false, false},
		{"fe80::1:80:x", false, false},
		{"unix-abstract:x", false, false},
		{"[::1%lo]:80", false, false},
		{"[1.2.3.4]:80", false, false},
		{"[host]", false, false},
		{"unix", false, false},
		{"UNIX:80", false, false},
		{"unix:/x", false, false},
		{"passthrough:///h:1", false, false},
		{"h/p:1", false, false},
		{"u@h:1", false, false},
		{"h%41:1", false, false},
		{"-h:1", false, false},
		{".h:1", false, false},
		{"hé:1", false, false},
		{"h h:1", false, false},
		{strings.Repeat("h", 253) + ":1", true, true},
		{strings.Repeat("h", 254) + ":1", false, false},
	}
	for _, tt := range tests {
		if err := CheckAddr(tt.addr, true); (err == nil) != tt.port {
			t.Errorf("CheckAddr(%q, true) = %v", tt.addr, err)
		}
		if err := CheckAddr(tt.addr, false); (err == nil) != tt.bare {
			t.Errorf("CheckAddr(%q, false) = %v", tt.addr, err)
		}
	}
}
