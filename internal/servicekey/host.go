package servicekey

import (
	"net/netip"
	"strconv"
	"strings"
)

// An authority and an endpoint's address are both a host with a port, but follow different rules. Certificates are
// checked against an authority, so it must be a name that one can be issued for; it may lack a port. Clients dial an
// address from etcd: any name that a dialer accepts as a host is valid. This file has the shared rules.

// MaxHost bounds the name of a host, in bytes.
const MaxHost = 253

// IsHostByte reports whether the name of a host may contain c.
func IsHostByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_'
}

// IsPort reports whether text is a port from 1 to 65535 in its shortest form.
func IsPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil && text[0] != '0'
}

// IsIPv6 reports whether host is an IPv6 address without a zone, which is valid on one host only.
func IsIPv6(host string) bool {
	if strings.Count(host, ":") < 2 { // a cheap check first
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Is6() && ip.Zone() == ""
}
