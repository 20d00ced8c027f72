package servicekey

import (
	"net/netip"
	"strings"
)

// TLSName returns the name that TLS checks the certificates of a service's servers against: the host of its authority
// or, without one, of its key. Names that are equal to certificates have one form: lower case, without a port and a
// final dot, and addresses in their shortest form. It is "" if neither gives a valid host.
func TLSName(key, authority string) string {
	if authority == "" {
		var ok bool
		if authority, ok = Authority(key); !ok {
			return ""
		}
	}
	if CheckAuthority(authority) != nil {
		return ""
	}
	host, _, _ := cutPort(authority)
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String()
	}
	return strings.ToLower(host)
}
