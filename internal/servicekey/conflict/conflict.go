// Package conflict finds service keys that must not be used together.
package conflict

import (
	"net"
	"net/netip"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// Outer returns the longest prefix of key that overlaps with key in the given
// way and for which wanted returns true, "" if there is none.
func Outer(key string, kind servicekey.Overlap, wanted func(prefix string) bool) string {
	for i := len(key) - 1; i > 0; i-- {
		if servicekey.OverlapOf(key[:i], key, true) == kind && wanted(key[:i]) {
			return key[:i]
		}
	}

	return ""
}

// TLSName returns the host that TLS checks the certificates of a service's
// servers against. It is the host of the authority or, without an authority, of
// the key; "" if that is invalid. Equal hosts have equal text: in lower case,
// without a port and a final dot, with addresses in their shortest form.
func TLSName(key, authority string) string {
	if authority == "" {
		var ok bool
		authority, ok = servicekey.Authority(key)
		if !ok {
			return ""
		}
	}

	if servicekey.CheckAuthority(authority) != nil {
		return ""
	}

	host, _, err := net.SplitHostPort(authority)
	if err != nil { // authority has no port
		host = authority
	}

	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String()
	}

	return strings.ToLower(host)
}
