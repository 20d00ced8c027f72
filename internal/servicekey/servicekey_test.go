package servicekey

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	tests := []struct {
		key  string
		want string // in the error; "" for none
	}{
		{"a", ""},
		{"/a", ""},
		{"сервис/问候", ""},
		{"_grpc_config2", ""},
		{"acme/_grpc_config", ""},
		{"acme/_grpc_leader", ""},
		{"_grpc_leader/a", "reserved for elections"},
		{"", "is empty"},
		{"/", "slash alone"},
		{"a//b", "double slash"},
		{"a/", "ends in a slash"},
		{"a b", "white space (U+0020)"},
		{"a\x00b", "U+0000"},
		{"a\u2800", "U+2800"},
		{"a\xff", "UTF-8"},
		{".", `segment "."`},
		{"a/../b", `segment ".."`},
		{"_grpc_config", "reserved"},
		{"/_grpc_config/a", "reserved"},
	}
	for _, tt := range tests {
		err := Check(tt.key)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("Check(%q): %v", tt.key, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("Check(%q) = %v; want it to say %s", tt.key, err, tt.want)
		}
	}
}

func TestAuthority(t *testing.T) {
	tests := []struct {
		key, want string
		ok        bool
	}{
		{"helloworld/greeter", "helloworld.greeter", true},
		{"/a/b", "a.b", true},
		{"a", "a", true},
		{"Order_1", "Order_1", true},
		{"сервис/a", "сервис.a", false},
		{"a:80", "a:80", false},
		{"a-/b", "a-.b", false},
	}
	for _, tt := range tests {
		if got, ok := Authority(tt.key); got != tt.want || ok != tt.ok {
			t.Errorf("Authority(%q) = %q, %t; want %q, %t", tt.key, got, ok, tt.want, tt.ok)
		}
	}
}

func TestCheckAuthority(t *testing.T) {
	tests := []struct {
		authority string
		want      string // in the error; "" for none
	}{
		{"user.acme.com", ""},
		{"user.acme.com.", ""},
		{"10.0.0.7:9000", ""},
		{"[::1]:65535", ""},
		{"", "no host"},
		{".", "no host"},
		{":80", "no host"},
		{"a..b", "no host"},
		{"a:", `port ""`},
		{"a:0", `port "0"`},
		{"a:080", `port "080"`},
		{"a:65536", `port "65536"`},
		{"::1", "IPv6 address in brackets"},
		{"[::1", "has brackets"},
		{"[a]", "has brackets"},
		{"[1.2.3.4]:80", "has brackets"},
		{"a b", "character ' '"},
		{"ü", "character 'ü'"},
		{"-a", "hyphen"},
		{strings.Repeat("a", 64), "63 bytes"},
		{strings.Repeat("a.", 127) + "a", "253 bytes"},
	}
	for _, tt := range tests {
		err := CheckAuthority(tt.authority)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("CheckAuthority(%q): %v", tt.authority, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("CheckAuthority(%q) = %v; want it to say %s", tt.authority, err, tt.want)
		}
	}
}

func TestLeaderPrefix(t *testing.T) {
	keys := []string{"a", "/a", "a/b", "/a/b", "a/b/c", "ab"}
	for _, one := range keys {
		for _, other := range keys {
			if one != other && strings.HasPrefix(LeaderPrefix(other)+"X", LeaderPrefix(one)) {
				t.Errorf("the range of %q holds the candidates of %q", one, other)
			}
		}
	}
}
