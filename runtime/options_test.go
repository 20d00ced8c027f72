package runtime

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// allowed returns the check for prefixes that are separated by spaces.
func allowed(t *testing.T, text string) func(addr string) error {
	t.Helper()

	o := options{allowed: []netip.Prefix{}}
	for _, p := range strings.Fields(text) {
		o.allowed = append(o.allowed, netip.MustParsePrefix(p))
	}

	check, err := o.addressCheck()
	must(t, err)

	return check
}

func TestAllowed(t *testing.T) {
	const (
		yes    = ""
		name   = "no IP address"
		zone   = "has a zone"
		within = "in none of the prefixes of WithAllowedAddresses"
	)

	for _, tt := range []struct{ prefixes, addr, want string }{
		// An address is in a prefix, or it is not.
		{"10.0.0.0/8", "10.1.2.3:9000", yes},
		{"10.0.0.0/8", "11.1.2.3:9000", within},
		{"10.0.0.0/8", "[fd00::1]:9000", within},
		{"fd00::/8", "[fd00::1]:9000", yes},
		// The bits after the length of a prefix do not count.
		{"10.1.2.3/8", "10.9.9.9:1", yes},
		// An address may be in any of several prefixes. 0.0.0.0/0 has no IPv6
		// addresses, and ::/0 no IPv4 addresses.
		{"10.0.0.0/8 192.168.0.0/16", "192.168.1.1:1", yes},
		{"0.0.0.0/0", "127.0.0.1:1", yes},
		{"0.0.0.0/0", "[::1]:1", within},
		{"::/0", "127.0.0.1:1", within},
		// Without a prefix, no address is allowed.
		{"", "127.0.0.1:1", within},
		// A mapped IPv4 address is dialed as IPv4, so it counts as IPv4, in
		// addresses and prefixes.
		{"10.0.0.0/8", "[::ffff:10.1.2.3]:1", yes},
		{"10.0.0.0/8", "[::ffff:11.1.2.3]:1", within},
		{"::/0", "[::ffff:10.1.2.3]:1", within},
		{"::ffff:10.0.0.0/104", "10.1.2.3:1", yes},
		{"::ffff:10.0.0.0/104", "[::ffff:10.1.2.3]:1", yes},
		// A name is refused, whatever it resolves to now.
		{"0.0.0.0/0 ::/0", "localhost:1", name},
		// An address in octal is refused as a name, though other parsers accept
		// it.
		{"0.0.0.0/0", "010.0.0.1:1", name},
		// An address without a port is refused as a name.
		{"0.0.0.0/0", "10.0.0.1", name},
		{"0.0.0.0/0", "", name},
		{"::/0", "[fe80::1%eth0]:1", zone},
		{"::/0", "[fe80::1]:1", yes},
	} {
		err := allowed(t, tt.prefixes)(tt.addr)
		if (err == nil) != (tt.want == yes) || !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("prefixes %q: check(%q) = %v, want %q in it, or nil", tt.prefixes, tt.addr,
				err, tt.want)
		}
	}
}

// The error goes to a log. The writer of the address must not be able to forge
// lines of that log.
func TestAllowed_ErrorsAreShortAndQuoted(t *testing.T) {
	text := allowed(t, "")("a\nb\u202e" + strings.Repeat("x", 1000) + ":1").Error()
	if len(text) > 400 || strings.ContainsAny(text, "\n\u202e") {
		t.Errorf("the error has %d bytes, want at most 400, all printable: %q", len(text), text)
	}
}

func TestAllowed_BadPrefixes(t *testing.T) {
	good := netip.MustParsePrefix("10.0.0.0/8")
	for _, bad := range []netip.Prefix{{}, netip.PrefixFrom(good.Addr(), 33),
		netip.PrefixFrom(netip.Addr{}, 8)} {
		_, err := (&options{allowed: []netip.Prefix{good, bad}}).addressCheck()
		if err == nil || !strings.Contains(err.Error(), "prefix 2 of 2") {
			t.Errorf("addressCheck with the prefix %v returned %v, want an error with %q", bad,
				err, "prefix 2 of 2")
		}
	}
}
