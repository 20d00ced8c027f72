package servicekey

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Authority returns the default :authority of a key: the key without a leading
// slash and with "." for "/". ok reports whether the result is a valid host.
func Authority(key string) (authority string, ok bool) {
	authority = strings.ReplaceAll(strings.TrimPrefix(key, "/"), "/", ".")
	return authority, checkHost(authority) == nil
}

// CheckAuthority returns an error unless an authority is a host with or without
// a port. The error continues a sentence that begins with the authority, and
// names the cure.
func CheckAuthority(authority string) error {
	for _, r := range authority {
		if !isHostRune(r) && !strings.ContainsRune(":[]", r) {
			return fmt.Errorf(`has the character %q: give it a host or host:port, such as "user.acme.com"`, r)
		}
	}

	host := authority

	i := strings.LastIndexByte(authority, ':')
	if i >= 0 && !strings.HasSuffix(authority, "]") {
		host = authority[:i]

		if port := authority[i+1:]; !IsPort(port) {
			return fmt.Errorf("has the port %.20q: give it one from 1 to 65535, or none",
				port)
		}
	}

	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if !ok || !IsIPv6(inner) {
			return errors.New(
				"has brackets: give it an IPv6 address between them, or leave them out")
		}

		return nil
	}

	return checkHost(strings.TrimSuffix(host, "."))
}

// checkHost returns an error unless host is an IPv4 address or a name that a
// certificate can be issued for.
func checkHost(host string) error {
	if len(host) > MaxHost {
		return fmt.Errorf(
			"is longer than the %d bytes of a host name: give it a shorter one", MaxHost)
	}

	for label := range strings.SplitSeq(host, ".") {
		switch {
		case label == "":
			return errors.New(`has no host, or an empty part next to a dot: give it a host or host:port, such as "user.acme.com"`)
		case len(label) > 63:
			return fmt.Errorf("is not a host, because %.63q is longer than 63 bytes: give it a shorter one", label)
		case label[0] == '-' || label[len(label)-1] == '-':
			return fmt.Errorf(
				"is not a host, because %q begins or ends with a hyphen: leave that out",
				label)
		}
	}

	for _, r := range host {
		if !isHostRune(r) {
			return fmt.Errorf("is not a host, because it has the character %q: put an IPv6 address in brackets", r)
		}
	}

	return nil
}

func isHostRune(r rune) bool {
	return r < 0x80 && IsHostByte(byte(r))
}

// An authority and an endpoint's address are both a host with a port, but
// follow different rules. Certificates are checked against an authority, so it
// must be a name that a certificate can be issued for, and it may lack a port.
// Clients dial an address, so it may be any name that a dialer accepts. The
// rules below hold for both.

// MaxHost bounds the name of a host, in bytes.
const MaxHost = 253

// IsHostByte reports whether the name of a host may contain c.
func IsHostByte(c byte) bool {
	return 'a' <= c && c <= 'z' ||
		'A' <= c && c <= 'Z' ||
		'0' <= c && c <= '9' ||
		c == '.' ||
		c == '-' ||
		c == '_'
}

// IsPort reports whether text is a port from 1 to 65535 without leading zeros.
func IsPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil && text[0] != '0'
}

// IsIPv6 reports whether host is an IPv6 address without a zone. A zone would
// be valid on one host only.
func IsIPv6(host string) bool {
	if strings.Count(host, ":") < 2 { // this check is cheap
		return false
	}

	ip, err := netip.ParseAddr(host)

	return err == nil && ip.Is6() && ip.Zone() == ""
}
