package servicekey

import (
	"fmt"
	"strings"
	"testing"
)

func TestCheckAuthority(t *testing.T) {
	for authority, want := range map[string]string{ // a part of the error, "" for none
		"user.acme.com":                 "",
		"user.acme.com.":                "",
		"10.0.0.7:9000":                 "",
		"[::1]:65535":                   "",
		"":                              "no host",
		".":                             "no host",
		":80":                           "no host",
		"a..b":                          "no host",
		"a:":                            `port ""`,
		"a:0":                           `port "0"`,
		"a:080":                         `port "080"`,
		"a:65536":                       `port "65536"`,
		"::1":                           "IPv6 address in brackets",
		"[::1":                          "has brackets",
		"[a]":                           "has brackets",
		"[1.2.3.4]:80":                  "has brackets",
		"a b":                           "character ' '",
		"ü":                             "character 'ü'",
		"-a":                            "hyphen",
		strings.Repeat("a", 64):         "63 bytes",
		strings.Repeat("a.", 127) + "a": "253 bytes",
	} {
		err := CheckAuthority(authority)
		if (err == nil) != (want == "") || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("CheckAuthority(%q) = %v, want %q in it, or nil", authority, err, want)
		}
	}
}
