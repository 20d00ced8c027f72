package servicekey

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestCheck(t *testing.T) {
	for key, want := range map[string]string{ // a part of the error, "" for none
		"a":                 "",
		"/a":                "",
		"сервис/问候":         "",
		"_grpc_config2":     "",
		"acme/_grpc_config": "",
		"acme/_grpc_leader": "",
		"_grpc_leader/a":    "reserved for elections",
		"":                  "is empty",
		"/":                 "slash alone",
		"a//b":              "double slash",
		"a/":                "ends in a slash",
		"a b":               "white space (U+0020)",
		"a\x00b":            "U+0000",
		"a\u2800":           "U+2800",
		"a\xff":             "UTF-8",
		".":                 `segment "."`,
		"a/../b":            `segment ".."`,
		"_grpc_config":      "reserved",
		"/_grpc_config/a":   "reserved",
	} {
		err := Check(key)
		if (err == nil) != (want == "") || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("Check(%q) = %v, want %q in it, or nil", key, err, want)
		}
	}
}

func TestOverlap(t *testing.T) {
	for _, tt := range []struct {
		outer, inner    string
		plain, suffixed Overlap
	}{
		{"a", "a", NoOverlap, NoOverlap},
		{"a/b", "a", NoOverlap, NoOverlap},
		{"a", "a/b", Nested, Nested},
		{"a", "ab", NoOverlap, NoOverlap},
		{"a", "a-1", NoOverlap, NoOverlap},
		{"a", "a1", NoOverlap, Continued},
		{"a", "a1/b", NoOverlap, Continued},
		{"/a", "a/b", NoOverlap, NoOverlap},
	} {
		if got := OverlapOf(tt.outer, tt.inner, false); got != tt.plain {
			t.Errorf("OverlapOf(%q, %q, false) = %v, want %v", tt.outer, tt.inner, got, tt.plain)
		}

		if got := OverlapOf(tt.outer, tt.inner, true); got != tt.suffixed {
			t.Errorf("OverlapOf(%q, %q, true) = %v, want %v", tt.outer, tt.inner, got, tt.suffixed)
		}
	}
}

func TestValidTTL(t *testing.T) {
	for ttl, want := range map[time.Duration]bool{
		0:                          false,
		time.Second - 1:            false,
		time.Second:                true,
		1500 * time.Millisecond:    false,
		15 * time.Second:           true,
		24 * time.Hour:             true,
		24*time.Hour + time.Second: false,
		-time.Second:               false,
	} {
		if got := ValidTTL(ttl); got != want {
			t.Errorf("ValidTTL(%v) = %v, want %v", ttl, got, want)
		}
	}
}
