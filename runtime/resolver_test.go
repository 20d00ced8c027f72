package runtime

import (
	"net/url"
	"strings"
	"testing"
	"unicode"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// FuzzTarget parses targets by net/url, as gRPC does, and then by parseTarget.
func FuzzTarget(f *testing.F) {
	for _, target := range []string{
		"etcd:///acme/user", "etcd:////services/user", "etcd:///hello?layout=lease_suffix", "etcd:acme/user", "etcd://host/acme",
		"etcd:///a?layout=x", "etcd:///a?layout=plain&layout=plain", "etcd:///a#b", "etcd:///a%2Fb", "etcd:///a%0Ab", "etcd:///a?%zz", "etcd:///gr%C3%B6%C3%9Fe", "etcd:///a?b=1&c=2",
	} {
		f.Add(target)
	}

	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.Parse(target)
		if err != nil || u.Scheme != Scheme {
			return
		}

		key, layout, err := parseTarget(*u)
		if err != nil {
			text := err.Error()
			if len(text) > 3*len(target)+500 || strings.ContainsFunc(text, func(r rune) bool {
				return !unicode.IsPrint(r)
			}) {
				t.Errorf("the error has %d bytes, want at most %d, all printable: %q", len(text),
					3*len(target)+500, text)
			}

			return
		}

		if err := endpoint.CheckKey(key); err != nil {
			t.Fatalf("target %q gives an invalid key: %v", target, err)
		}

		spelled := url.URL{Scheme: Scheme, Path: "/" + key}
		if !layout.IsZero() {
			spelled.RawQuery = "layout=" + layout.String()
		}

		again, err := url.Parse(spelled.String())
		if err != nil {
			t.Fatalf("target %q, written again as %q, cannot be parsed: %v", target,
				spelled.String(), err)
		}

		if gotKey, gotLayout, err := parseTarget(*again); err != nil ||
			gotKey != key ||
			gotLayout != layout {
			t.Errorf("target %q has the key %q and the layout %v, but written as %q it has %q, %v and the error %v",
				target, key, layout, again, gotKey, gotLayout, err)
		}

		// net/url must parse the authority
		authority := new(builder).OverrideAuthority(resolver.Target{URL: *u})
		parsed, err := url.Parse("https://" + strings.ReplaceAll(authority, "%", "%25"))
		if err != nil ||
			parsed.Path != "" ||
			parsed.User != nil ||
			parsed.Fragment != "" ||
			parsed.RawQuery != "" ||
			strings.ContainsFunc(authority, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("target %q has the invalid authority %q, parsed as %+v, %v", target,
				authority, parsed, err)
		}
	})
}
