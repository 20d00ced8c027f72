package etcdcause

import (
	"net/url"
	"slices"
	"strings"
)

// Shown returns the endpoints of an etcd client for display: without user and
// password, which etcd's client accepts in URLs and ignores. If an endpoint is
// not the URL of a host, Shown removes all text up to the last "@" except the
// scheme.
func Shown(endpoints []string) []string {
	shown := slices.Clone(endpoints)
	for i, e := range shown {
		if strings.HasPrefix(e, "unix") {
			continue // in the name of a socket, "@" has another meaning
		}

		start := 0
		if slashes := strings.Index(e, "//"); slashes >= 0 {
			start = slashes + len("//")
		}

		authority := e[start:]

		if u, err := url.Parse(e); err == nil && u.Host != "" {
			if end := strings.IndexAny(authority, "/?#"); end >= 0 {
				authority = authority[:end]
			}
		}

		if at := strings.LastIndexByte(authority, '@'); at >= 0 {
			shown[i] = e[:start] + e[start+at+1:]
		}
	}

	return shown
}
