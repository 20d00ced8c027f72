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
		{"helloworld/greeter", ""},
		{"/etcd/order-service-1", ""},
		{"/services/google.pubsub.v1.Publisher", ""},
		{"сервис/问候", ""},
		{"a:b", ""},
		{"...", ""},
		{"_grpc_config2", ""},
		{"acme/_grpc_config", ""},
		{"", "is empty"},
		{"/", "slash alone"},
		{"//", "double slash"},
		{"//a", "double slash"},
		{"a//b", "double slash"},
		{"a/", "ends in a slash"},
		{"a//", "double slash"},
		{"a b", "white space (U+0020)"},
		{"a\u00a0b", "white space (U+00A0)"},
		{"a\nb", "white space (U+000A)"},
		{"a\u2028b", "white space (U+2028)"},
		{"a\x00b", "U+0000"},
		{"a\u200bb", "U+200B"},
		{"a\u202eb", "U+202E"},
		{"\ufeffa", "U+FEFF"},
		{"a\ue000b", "U+E000"},
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
	for key, want := range map[string]string{
		"helloworld/greeter": "helloworld.greeter",
		"/a/b":               "a.b",
		"a":                  "a",
	} {
		if got := Authority(key); got != want {
			t.Errorf("Authority(%q) = %q; want %q", key, got, want)
		}
	}
}
