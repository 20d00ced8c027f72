package servicekey

import (
	"net"
	"net/url"
	"strings"
	"testing"
	"unicode"
)

// FuzzKey checks keys, and the gRPC target and the authority of an accepted
// key.
func FuzzKey(f *testing.F) {
	for _, key := range []string{
		"acme/user", "/services/user", "a//b", "a/./b", "_grpc_config/a", "_grpc_leader/a",
		"größe/漢字", "a\u200bb", "a\u00a0b", "a\nb", "a\u2028b", "a\ue000b", "A-b_c.d", "...",
		"a\xff", "a/..b", "user.",
	} {
		f.Add(key)
	}

	f.Fuzz(func(t *testing.T, key string) {
		if err := Check(key); err != nil {
			checkText(t, err)
			return
		}

		invisible := func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }
		if strings.ContainsFunc(key, invisible) {
			t.Fatalf("Check(%q) = nil, want an error about a space or an invisible character", key)
		}

		for segment := range strings.SplitSeq(strings.TrimPrefix(key, "/"), "/") {
			if segment == "" ||
				segment == "." ||
				segment == ".." ||
				strings.HasPrefix(key, Reserved+"/") ||
				strings.HasPrefix(key, LeaderSegment+"/") ||
				Check(segment) != nil && segment != Reserved && segment != LeaderSegment {
				t.Fatalf("Check(%q) = nil, want an error about the segment %q", key, segment)
			}
		}

		// This is the key in a gRPC target.
		u, err := url.Parse("etcd:///" + (&url.URL{Path: key}).EscapedPath())
		if err != nil || strings.TrimPrefix(u.Path, "/") != key {
			t.Fatalf("the valid key %q is parsed by net/url as %+v, %v", key, u, err)
		}

		if authority, ok := Authority(key); ok {
			checkAuthority(t, authority)
		}
	})
}

// FuzzAuthority checks authorities.
func FuzzAuthority(f *testing.F) {
	for _, authority := range []string{
		"user.acme.com", "user.acme.com.", "a:1", "a:0", "[::1]", "[::1]:443", "1.2.3.4:80",
		"-a", "a..b", "a@b", "a%41", "a/b", "a-.b", "a:080", "a:65536", "", ":1", "[a]", "::1",
	} {
		f.Add(authority)
	}

	f.Fuzz(func(t *testing.T, authority string) {
		if err := CheckAuthority(authority); err != nil {
			checkText(t, err)
			return
		}

		checkAuthority(t, authority)
	})
}

// checkAuthority parses an accepted authority with other parsers.
func checkAuthority(t *testing.T, authority string) {
	t.Helper()

	if err := CheckAuthority(authority); err != nil {
		t.Fatalf("the authority %q of a valid key is refused: %v", authority, err)
	}

	u, err := url.Parse("https://" + authority)
	if err != nil || u.Host != authority || u.User != nil || u.Path != "" {
		t.Fatalf("the valid authority %q is parsed by net/url as %+v, %v", authority, u, err)
	}

	if u.Port() == "" {
		authority = net.JoinHostPort(u.Hostname(), "443")
	}

	host, port, err := net.SplitHostPort(authority)
	if err != nil || host != u.Hostname() || host == "" || !IsPort(port) {
		t.Fatalf("the valid authority %q is split by package net into %q and %q, %v",
			authority, host, port, err)
	}
}

// checkText checks that an error fits in a line of a log.
func checkText(t *testing.T, err error) {
	t.Helper()

	text := err.Error()
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	if len(text) > 500 || strings.ContainsFunc(text, unprintable) {
		t.Fatalf("the error is too long or not printable: %q", err)
	}
}
