package advertise

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/modelcheck"
)

// A listener on all addresses is announced with the local address of a route to etcd.
func TestChoose(t *testing.T) {
	for _, tt := range []struct {
		name, routes string // TARGET>LOCAL words; without a local address the route is missing
		want         string // "": an error
		says         string // part of the error
	}{
		{"towards etcd", "a>10.0.0.8", "10.0.0.8", ""},
		{"the first that can be reached", "a b>10.0.0.8 c>10.2.0.8", "10.0.0.8", ""},
		{"the first that is elsewhere", "a>127.0.0.1 b>10.0.0.8", "10.0.0.8", ""},
		{"etcd on this host", "a b>::ffff:127.0.0.1", "127.0.0.1", ""},
		{"no route", "a b", "", "not known yet: no way to a\nno way to b"},
		{"no address on the way", "a>0.0.0.0", "", "to a traffic leaves from 0.0.0.0"},
		{"an address of this link", "a>fe80::1%eth0", "", "to a traffic leaves from fe80::1%eth0"},
	} {
		var routes []route
		for _, word := range strings.Fields(tt.routes) {
			target, local, ok := strings.Cut(word, ">")
			r := route{target: target, err: errors.New("no way to " + target)}
			if ok {
				r.local, r.err = netip.MustParseAddr(local), nil
			}
			routes = append(routes, r)
		}
		got, err := choose(routes)
		if tt.want == "" && (!errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
		if tt.want != "" && (err != nil || got.String() != tt.want) {
			t.Errorf("%s: %v, %v, want %s", tt.name, got, err, tt.want)
		}
	}
}

func TestCoreIsPure(t *testing.T) {
	modelcheck.Check(t, "core.go")
}
