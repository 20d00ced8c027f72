package runtime

import (
	"net/netip"
	"strings"
	"testing"
)

// allowed returns the prefixes in a text.
func allowed(t *testing.T, text string) allowedPrefixes {
	t.Helper()
	var prefixes []netip.Prefix
	for _, p := range strings.Fields(text) {
		prefixes = append(prefixes, netip.MustParsePrefix(p))
	}
	l, err := newAllowed(prefixes)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestAllowed(t *testing.T) {
	const (
		yes    = ""
		name   = "no IP address"
		zone   = "has a zone"
		within = "in none of the allowed prefixes"
	)
	for _, tt := range []struct{ prefixes, addr, want string }{
		// An address is in a prefix, or it is not.
		{"10.0.0.0/8", "10.1.2.3:9000", yes},
		{"10.0.0.0/8", "11.1.2.3:9000", within},
		{"10.0.0.0/8", "[fd00::1]:9000", within},
		{"fd00::/8", "[fd00::1]:9000", yes},
		// Bits behind the prefix do not count.
		{"10.1.2.3/8", "10.9.9.9:1", yes},
		// Any of several will do; all of one family are not all of the other.
		{"10.0.0.0/8 192.168.0.0/16", "192.168.1.1:1", yes},
		{"0.0.0.0/0", "127.0.0.1:1", yes},
		{"0.0.0.0/0", "[::1]:1", within},
		{"::/0", "127.0.0.1:1", within},
		// None allows none.
		{"", "127.0.0.1:1", within},
		// A mapped IPv4 address is dialed as IPv4, so it is judged as that, in either place.
		{"10.0.0.0/8", "[::ffff:10.1.2.3]:1", yes},
		{"10.0.0.0/8", "[::ffff:11.1.2.3]:1", within},
		{"::/0", "[::ffff:10.1.2.3]:1", within},
		{"::ffff:10.0.0.0/104", "10.1.2.3:1", yes},
		{"::ffff:10.0.0.0/104", "[::ffff:10.1.2.3]:1", yes},
		// A name is not judged by what it resolves to now.
		{"0.0.0.0/0 ::/0", "localhost:1", name},
		// What other parsers take for an address, in octal, is a name.
		{"0.0.0.0/0", "010.0.0.1:1", name},
		// Without a port it is not what callers dial.
		{"0.0.0.0/0", "10.0.0.1", name},
		{"0.0.0.0/0", "", name},
		{"::/0", "[fe80::1%eth0]:1", zone},
		{"::/0", "[fe80::1]:1", yes},
	} {
		err := allowed(t, tt.prefixes).check(tt.addr)
		switch {
		case tt.want == yes && err != nil:
			t.Errorf("%q: %s: %v, want it allowed", tt.prefixes, tt.addr, err)
		case tt.want != yes && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%q: %s: %v, want %q", tt.prefixes, tt.addr, err, tt.want)
		}
	}
}

// The error is for a log: the writer of the address does not decide how it looks.
func TestAllowed_ErrorsAreShortAndQuoted(t *testing.T) {
	err := allowedPrefixes(nil).check("a\nb\u202e" + strings.Repeat("x", 1000) + ":1")
	if text := err.Error(); len(text) > 400 || strings.ContainsAny(text, "\n\u202e") {
		t.Errorf("%d bytes: %s", len(text), text)
	}
}

func TestAllowed_BadPrefixes(t *testing.T) {
	good := netip.MustParsePrefix("10.0.0.0/8")
	for _, bad := range []netip.Prefix{{}, netip.PrefixFrom(good.Addr(), 33), netip.PrefixFrom(netip.Addr{}, 8)} {
		_, err := newAllowed([]netip.Prefix{good, bad})
		if err == nil || !strings.Contains(err.Error(), "prefix 2 of 2") {
			t.Errorf("%v: %v, want an error that says which it is", bad, err)
		}
	}
}
