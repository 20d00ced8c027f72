package advertise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// host returns a Config.Local of a host with one address.
func host(text string) func(context.Context, string, string) (netip.Addr, error) {
	return func(_ context.Context, network, _ string) (netip.Addr, error) {
		ip := netip.MustParseAddr(text)
		if network == "udp4" && !ip.Unmap().Is4() {
			return netip.Addr{}, errors.New("no address for " + network)
		}

		return ip, nil
	}
}

// Each row is a listener with its announced address and warning.
func TestAddress(t *testing.T) {
	local := []string{"127.0.0.1:2379", "http://localhost:2379"}
	for _, tt := range []struct {
		name   string
		config Config
		listen string
		local  string
		want   string // "": an error
		says   string // part of the warning or the error; "": no warning
	}{
		{"option first", Config{Option: "a:1", Env: "b:2"}, "10.0.0.1:3", "10.0.0.9", "a:1", ""},
		{"then listener", Config{}, "10.0.0.1:3", "10.0.0.9", "10.0.0.1:3", ""},
		{"listener loopback", Config{}, "[::1]:3", "10.0.0.9", "[::1]:3",
			"the listener: only this host can dial ::1, but etcd is on another host; set another address by WithAdvertiseAddress"},
		{"listener loopback, and etcd", Config{Etcd: local}, "127.0.0.1:3", "127.0.0.1",
			"127.0.0.1:3", ""},
		{"listener loopback, and etcd at an unreadable endpoint, too",
			Config{Etcd: append(local, "a]b")}, "127.0.0.1:3", "127.0.0.1", "127.0.0.1:3", ""},
		{"any, and etcd on loopback", Config{Etcd: local}, ":3", "127.0.0.1", "127.0.0.1:3",
			"etcd is reached over loopback, and only this host can dial 127.0.0.1; set another address by WithAdvertiseAddress"},
		{"any, and etcd on a socket", Config{Etcd: []string{"unix:///x"}}, ":3", "10.0.0.9", "",
			"no TCP endpoint"},
		{"option loopback, and etcd", Config{Etcd: local, Option: "a.localhost:1"}, ":3",
			"127.0.0.1", "a.localhost:1", ""},
		{"listener name", Config{}, "svc.local:3", "10.0.0.9", "svc.local:3", ""},
		{"any", Config{}, "[::]:3", "10.0.0.9", "10.0.0.9:3", ""},
		{"any, mapped", Config{}, "[::ffff:0.0.0.0]:3", "fd00::9", "", "no address for udp4"},
		{"any towards IPv6", Config{}, "[::]:3", "fd00::9", "[fd00::9]:3", ""},
		{"any, IPv4 only, towards IPv6", Config{}, "0.0.0.0:3", "fd00::9", "",
			"no address for udp4"},
		{"option host alone", Config{Option: "10.1.1.1"}, "[::]:3", "10.0.0.9", "10.1.1.1:3", ""},
		{"option IPv6 alone", Config{Option: "fd00::1"}, "[::]:3", "10.0.0.9", "[fd00::1]:3", ""},
		{"option any", Config{Option: "0.0.0.0:1"}, "[::]:3", "10.0.0.9", "",
			"WithAdvertiseAddress: "},
		{"option port 0", Config{Option: "a:0"}, "[::]:3", "10.0.0.9", "", "port"},
		{"option loopback", Config{Option: "localhost"}, "[::]:3", "10.0.0.9", "localhost:3",
			"WithAdvertiseAddress: only this host can dial localhost"},
		{"environment loopback", Config{Env: "127.0.0.1:8"}, "[::]:3", "10.0.0.9", "127.0.0.1:8",
			"GRPC_ADVERTISE_ADDR: only this host can dial 127.0.0.1"},
		{"option network", Config{Option: "127.0.0.1/32"}, "[::]:3", "10.0.0.9", "127.0.0.1:3",
			"WithAdvertiseAddress: only this host can dial 127.0.0.1"},
		{"environment network, none", Config{Env: "203.0.113.9/32"}, "[::]:3", "10.0.0.9", "",
			"GRPC_ADVERTISE_ADDR: this host's address is not known yet: none of the addresses ["},
		{"option network with port", Config{Option: "10.0.0.0/8:9"}, "[::]:3", "10.0.0.9", "",
			"want a single host:port"},
		{"bad environment", Config{Env: "unix:/x"}, "[::]:3", "10.0.0.9", "",
			"GRPC_ADVERTISE_ADDR: "},
		{"port 0", Config{}, "10.0.0.1:0", "10.0.0.9", "", "no port"},
		{"link-local", Config{}, "[fe80::1]:3", "10.0.0.9", "", "link-local"},
		{"not an address", Config{}, "a b:3", "10.0.0.9", "", "the listener's address"},
		{"pipe", Config{Network: "bufconn"}, "bufconn", "10.0.0.9", "",
			"is not host:port; set another address by WithAdvertiseAddress"},
		{"pipe with option without port", Config{Option: "a"}, "bufconn", "10.0.0.9", "",
			"has no port, and neither has the listener's"},
		{"socket", Config{Network: "unix"}, "x.sock", "10.0.0.9", "",
			"listen on TCP, or name a TCP address"},
		{"socket by its path", Config{}, "/run/x.sock", "10.0.0.9", "", "Unix socket"},
		{"abstract socket", Config{}, "@x", "10.0.0.9", "", "Unix socket"},
		{"socket with option", Config{Network: "unix", Option: "a:1"}, "/run/x.sock", "10.0.0.9",
			"a:1", ""},
		{"socket with option without port", Config{Network: "unix", Option: "a"}, "/run/x.sock",
			"10.0.0.9", "", "give host:port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.config.Etcd == nil {
				tt.config.Etcd = []string{"http://etcd:2379"}
			}

			tt.config.Local = host(tt.local)

			got, says, err := tt.config.Address(t.Context(), tt.listen)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("Address(%q) = %q, %v, want %q", tt.listen, got, err, tt.want)
			}

			if err != nil {
				says = err.Error()
				remedied := strings.Contains(says, "WithAdvertiseAddress") ||
					strings.Contains(says, EnvName)
				if !strings.HasPrefix(says, "etcd: ") || !remedied {
					t.Errorf("the error does not say what to do: %s", says)
				}
			}

			if !strings.Contains(says, tt.says) || (says == "") != (tt.says == "") {
				t.Errorf("the warning or error is %q, want %q in it", says, tt.says)
			}
		})
	}
}

func TestLookupsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := func(ctx context.Context, _, _ string) (netip.Addr, error) {
			<-ctx.Done()
			return netip.Addr{}, ctx.Err()
		}

		c := Config{Etcd: []string{"a", "b", "c"}, Local: hangs}
		began := time.Now()
		_, _, err := c.Address(t.Context(), ":3")

		took := time.Since(began)
		if !errors.Is(err, ErrUnknown) || took != lookupTimeout {
			t.Errorf(
				"Address of names whose lookup hangs: error %v after %v, want ErrUnknown after %v",
				err, took, lookupTimeout)
		}
	})
}

func TestHostPorts(t *testing.T) {
	given := []string{"a:1", "http://b:2", "https://c", "d", "[::1]:3", "::1", "unix:///x",
		"unixs://y:1", "unix:z", "http://%", "://"}
	got := hostPorts(given)
	want := []string{"a:1", "b:2", "c:2379", "d:2379", "[::1]:3", "[::1]:2379"}
	if !slices.Equal(got, want) {
		t.Errorf("hostPorts = %v, want %v", got, want)
	}
}

func TestCheck(t *testing.T) {
	for _, good := range []string{"10.0.0.1:80", "10.0.0.1", "[::1]:80", "::1", "svc:80", "svc",
		"127.0.0.1:80", "169.254.1.1:80", "123a:80"} {
		if err := Check(good); err != nil {
			t.Errorf("Check(%q) = %v, want nil", good, err)
		}
	}

	for _, bad := range []string{"", "0.0.0.0", "0.0.0.0:80", "::", "[::]", "[::]:80", "0",
		"0:80", "[::ffff:0.0.0.0]:80", "123:80", "224.0.0.1:80", "[ff02::1]:80",
		"255.255.255.255:80", "[fe80::1]:80", "[fe80::1%eth0]:80"} {
		if Check(bad) == nil {
			t.Errorf("Check(%q) = nil, want an error", bad)
		}
	}
}

// A network stands for the one address that the host has in it.
func TestInNetwork(t *testing.T) {
	// want: part of the address and the error
	for _, tt := range []struct{ network, own, want string }{
		{"10.0.0.0/8", "127.0.0.1/8 10.0.0.7/24 192.168.1.2/24", "10.0.0.7 <nil>"},
		{"10.9.9.9/8", "10.0.0.7/24 10.0.0.7/32 down: 10.0.0.8/24", "10.0.0.7 <nil>"},
		{"10.0.0.7/32", "10.0.0.7/24 10.0.0.8/24", "10.0.0.7 <nil>"},
		{"::ffff:10.0.0.0/104", "10.0.0.7/24 fd00::7/64", "10.0.0.7 <nil>"},
		{"fd00::/8", "10.0.0.7/24 fe80::7/64 fd00::7/64", "fd00::7 <nil>"},
		{"0.0.0.0/0", "127.0.0.1/8 10.0.0.7/24 fd00::7/64", "10.0.0.7 <nil>"},
		{"127.0.0.0/8", "127.0.0.1/8 10.0.0.7/24", "127.0.0.1 <nil>"},
		{"10.0.0.0/8", "10.0.0.8/24 10.0.0.7/24 192.168.1.2/24",
			"several addresses in 10.0.0.0/8, [10.0.0.8 10.0.0.7]: name one"},
		{"10.0.0.0/8", "127.0.0.1/8 fd00::7/64 down: 10.0.0.7/24",
			"not known yet: none of the addresses [127.0.0.1/8 fd00::7/64] of interfaces that are up can be announced for 10.0.0.0/8"},
		{"fe80::/10", "fe80::7/64", "not known yet"},
	} {
		running, down, _ := strings.Cut(tt.own, " down: ")
		interfaces := func() ([]net.Interface, error) {
			return []net.Interface{
				{Name: down, Flags: net.FlagUp},
				{Name: running, Flags: net.FlagRunning},
			}, nil
		}

		addrsOf := func(i *net.Interface) (own []net.Addr, _ error) {
			for _, text := range strings.Fields(i.Name) {
				own = append(own, &net.UnixAddr{Name: text})
			}

			return own, nil
		}

		addr, err := inNetwork(tt.network, interfaces, addrsOf)
		got := fmt.Sprintln(addr, err)
		if !strings.Contains(got, tt.want) ||
			errors.Is(err, ErrUnknown) != strings.HasPrefix(tt.want, "not known yet") {
			t.Errorf("inNetwork(%s, %s) = %s, want %q in it", tt.network, tt.own, got, tt.want)
		}
	}
}

// A listener on all addresses is announced with the local address of a route to
// etcd.
func TestChoose(t *testing.T) {
	for _, tt := range []struct {
		name, routes string // TARGET>LOCAL words; without a local address the route is missing
		want         string // part of the address and the error
	}{
		{"towards etcd", "a>10.0.0.8", "10.0.0.8 <nil>"},
		{"the first known route", "a b>10.0.0.8 c>10.2.0.8", "10.0.0.8 <nil>"},
		{"the first route off this host", "a>127.0.0.1 b>10.0.0.8", "10.0.0.8 <nil>"},
		{"etcd on this host", "a b>::ffff:127.0.0.1", "127.0.0.1 <nil>"},
		{"no route", "a b", "not known yet: no way to a\nno way to b"},
		{"an unspecified address", "a>0.0.0.0",
			"not known yet: the route to a has the local address 0.0.0.0"},
		{"a link-local address", "a>fe80::1%eth0",
			"not known yet: the route to a has the local address fe80::1%eth0"},
	} {
		var routes []route
		for _, word := range strings.Fields(tt.routes) {
			target, local, ok := strings.Cut(word, ">")
			r := route{target: target, err: errors.New("no way to " + target)}
			if ok {
				r.local = netip.MustParseAddr(local)
				r.err = nil
			}

			routes = append(routes, r)
		}

		if got := fmt.Sprint(choose(routes)); !strings.Contains(got, tt.want) {
			t.Errorf("%s: choose = %s, want %q in it", tt.name, got, tt.want)
		}
	}
}
