package advertise

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/coretest"
)

// routesOf reads "TARGET>LOCAL" words. Without a local address there is no way to the target, and with "?" it is not known.
func routesOf(text string) []route {
	var all []route
	for _, word := range strings.Fields(text) {
		host, local, ok := strings.Cut(word, ">")
		r := route{target: host + ":2379", host: host}
		if ok {
			r.local = netip.MustParseAddr(local)
		} else {
			r.host, r.unknown = strings.CutSuffix(host, "?")
			r.err = errors.New("no way to " + host)
		}
		all = append(all, r)
	}
	return all
}

func TestG28_Decide(t *testing.T) {
	const (
		lo  = "127.0.0.1>127.0.0.1"
		out = "192.0.2.1>10.0.0.9"
	)
	tests := []struct {
		name, host     string
		family         family
		etcd, defaults string
		want           string // "": an error
		says           string // part of the warning or the error; "": none
	}{
		// What is one address is announced, with a warning where only this host can dial it.
		{"one address", "10.1.1.1", anyFamily, "", "", "10.1.1.1", ""},
		{"a name", "svc.local", anyFamily, "", "", "svc.local", ""},
		{"loopback, and so is etcd", "127.0.0.1", anyFamily, lo, out, "127.0.0.1", ""},
		{"loopback, and etcd is a name of it", "::1", anyFamily, "localhost", out, "::1", ""},
		{"loopback, and etcd is a socket", "127.0.0.1", anyFamily, "", out, "127.0.0.1", ""},
		{"loopback, and etcd is on another host", "127.0.0.1", anyFamily, "etcd>10.0.0.9", out, "127.0.0.1", "test: only this host can dial 127.0.0.1"},
		{"loopback, and one etcd is on another host", "127.0.0.1", anyFamily, lo + " etcd>10.0.0.9", out, "127.0.0.1", "only this host"},
		{"loopback, and it is not known where etcd is", "127.1.2.3", anyFamily, "etcd", out, "127.1.2.3", "only this host"},
		{"mapped loopback", "::ffff:127.0.0.1", anyFamily, "etcd>10.0.0.9", out, "::ffff:127.0.0.1", "only this host"},
		{"localhost", "LocalHost.", anyFamily, "etcd>10.0.0.9", out, "LocalHost.", "only this host"},
		{"a name below localhost", "a.localhost", anyFamily, "etcd>10.0.0.9", out, "a.localhost", "only this host"},
		{"localhost with a domain", "localhost.localdomain", anyFamily, "etcd>10.0.0.9", out, "localhost.localdomain", "only this host"},
		{"like localhost", "localhost1", anyFamily, "etcd>10.0.0.9", out, "localhost1", ""},
		{"link-local", "169.254.1.2", anyFamily, "", "", "169.254.1.2", "same link"},

		// A listener on all addresses is announced with the one on the way to etcd.
		{"towards etcd", "", anyFamily, "etcd>10.0.0.8", out, "10.0.0.8", ""},
		{"towards etcd by IPv6", "", anyFamily, "etcd>fd00::8", out, "fd00::8", ""},
		{"towards etcd by a mapped address", "", anyFamily, "etcd>::ffff:10.0.0.8", out, "10.0.0.8", ""},
		{"towards the first that can be reached", "", anyFamily, "a b>10.0.0.8", out, "10.0.0.8", ""},
		{"towards the first that is elsewhere", "", anyFamily, lo + " b>10.0.0.8", out, "10.0.0.8", ""},
		{"by several interfaces", "", anyFamily, "a>10.0.0.8 b>10.0.0.8 c>10.2.0.8", out, "10.0.0.8", "10.0.0.8 (to a:2379) and 10.2.0.8 (to c:2379)"},
		{"by both families", "", anyFamily, "a>10.0.0.8 b>fd00::8 c", out, "10.0.0.8", ""},
		{"by a link", "", anyFamily, "a>169.254.0.8", out, "169.254.0.8", "same link"},
		{"by a link among several", "", anyFamily, "a>169.254.0.8 b>10.0.0.8", out, "169.254.0.8", "same link can dial it; this host reaches etcd from different"},
		{"no address at all", "", anyFamily, "a>0.0.0.0", out, "10.0.0.9", "no way to etcd is found: announcing 10.0.0.9, the default route's"},

		// Where etcd is on loopback, or its name is not known, with the one of the default route.
		{"etcd on loopback", "", anyFamily, lo, out, "10.0.0.9", ""},
		{"etcd on loopback, listener IPv6-only", "", ipv6, "127.0.0.1", "192.0.2.1 2001:db8::1>fd00::9", "fd00::9", ""},
		{"etcd on loopback, no default route by IPv4", "", anyFamily, lo, "192.0.2.1 2001:db8::1>fd00::9", "fd00::9", ""},
		{"no way to etcd", "", anyFamily, "etcd", out, "10.0.0.9", "no way to etcd is found"},
		{"etcd not known yet", "", anyFamily, "a etcd?", out, "", "not known yet: no way to a\nno way to etcd?"},
		{"some etcd not known yet", "", anyFamily, "a? b>10.0.0.8", out, "10.0.0.8", ""},
		{"some etcd not known yet, and some local", "", anyFamily, "a? " + lo, out, "10.0.0.9", ""},
		{"default route by a link", "", anyFamily, lo, "192.0.2.1>169.254.0.8", "169.254.0.8", "same link"},
		{"default route by a zone", "", anyFamily, lo, "2001:db8::1>fe80::1%eth0", "127.0.0.1", "only this host"},

		// Where there is none of these, with loopback and a warning if etcd is there, too.
		{"all is local", "", anyFamily, lo, "192.0.2.1", "127.0.0.1", "announcing 127.0.0.1, which only this host"},
		{"all is local, by IPv6", "", anyFamily, "localhost>::1", "192.0.2.1", "::1", "only this host"},
		{"all is local, listener IPv6-only", "", ipv6, "127.0.0.1", "192.0.2.1", "::1", "only this host"},
		{"all is local, etcd is a socket", "", anyFamily, "", "192.0.2.1", "127.0.0.1", "only this host"},
		{"some etcd is local", "", anyFamily, "a " + lo, "192.0.2.1", "127.0.0.1", "only this host"},
		{"no route", "", anyFamily, "a b", "192.0.2.1 2001:db8::1", "", "not known yet: no way to a\nno way to b"},
		{"no address on the way", "", anyFamily, "a>0.0.0.0", "192.0.2.1", "", "to a:2379 traffic leaves from 0.0.0.0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := candidate{source: "test", host: tt.host, port: "1", family: tt.family}
			host, says, err := c.decide(routesOf(tt.etcd), routesOf(tt.defaults))
			if err != nil {
				says = err.Error()
			}
			if host != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("host %q, %v, want %q", host, err, tt.want)
			}
			if !strings.Contains(says, tt.says) || (says == "") != (tt.says == "") {
				t.Errorf("says %q, want %q", says, tt.says)
			}
		})
	}
}

func TestRoutesAreNeededWhereTheyDecide(t *testing.T) {
	for host, want := range map[string]bool{"": true, "127.0.0.1": true, "localhost": true, "10.0.0.1": false, "svc": false} {
		if got := (candidate{host: host}).needsRoutes(); got != want {
			t.Errorf("routes for %q: %v", host, got)
		}
	}
}

func TestCoreIsPure(t *testing.T) {
	coretest.Check(t, "core.go")
}
