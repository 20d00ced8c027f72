package advertise

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// FuzzAddress finds the address to announce from whatever the environment, the option, the listener and
// the etcd client's endpoints hold.
func FuzzAddress(f *testing.F) {
	f.Add("", "", "[::]:9000", "tcp", "https://etcd.acme.com:2379")
	f.Add("10.0.0.7", "", "0.0.0.0:9000", "tcp", "127.0.0.1:2379")
	f.Add("user.acme.com:443", "", "/run/user.sock", "unix", "unix:///run/etcd.sock")
	f.Add("", "[::1]", "127.0.0.1:9000", "tcp4", "http://[::1]:2379/")
	f.Add("0.0.0.0:1", "224.0.0.1:1", "@", "", "etcd")
	f.Add("", "", "[fe80::1%eth0]:9000", "tcp6", "://")
	f.Fuzz(func(t *testing.T, env, option, listen, network, etcd string) {
		for _, local := range []string{"10.0.0.9", "127.0.0.1", "::1", "2001:db8::9", "fe80::1%eth0", ""} {
			c := Config{Option: option, Env: env, Etcd: []string{etcd}, Network: network,
				Local: func(context.Context, string, string) (netip.Addr, error) {
					if local == "" {
						return netip.Addr{}, errors.New("no way")
					}
					return netip.MustParseAddr(local), nil
				}}
			addr, _, err := c.Address(t.Context(), listen)
			if err != nil {
				continue
			}
			if err := errors.Join(endpoint.CheckAddr(addr, true), Check(addr)); err != nil { // callers can read and dial it
				t.Fatal(err)
			}
			again, _, err := Config{Option: addr, Local: c.Local}.Address(t.Context(), listen)
			if err != nil || again != addr {
				t.Fatalf("announces %q; given that, it announces %q, %v", addr, again, err)
			}
		}
		for _, target := range hostPorts([]string{etcd}) {
			if _, _, err := net.SplitHostPort(target); err != nil {
				t.Fatalf("the endpoint %q is at %q: %v", etcd, target, err)
			}
		}
	})
}
