package advertise

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// host returns the local function of a host that has one address.
func host(text string) func(context.Context, string, string) (netip.Addr, error) {
	return func(_ context.Context, network, _ string) (netip.Addr, error) {
		ip := netip.MustParseAddr(text)
		if network == "udp4" && !ip.Unmap().Is4() || network == "udp6" && ip.Unmap().Is4() {
			return netip.Addr{}, errors.New("no address for " + network)
		}
		return ip, nil
	}
}

func TestG28_Address(t *testing.T) {
	tests := []struct {
		name   string
		config Config
		listen string
		local  string
		want   string // "": an error
		says   string // part of the warning or the error; "": no warning
	}{
		{"option first", Config{Option: "a:1", Env: "b:2"}, "10.0.0.1:3", "10.0.0.9", "a:1", ""},
		{"then listener", Config{}, "10.0.0.1:3", "10.0.0.9", "10.0.0.1:3", ""},
		{"listener IPv6", Config{}, "[fd00::1]:3", "10.0.0.9", "[fd00::1]:3", ""},
		{"listener loopback", Config{}, "[::1]:3", "10.0.0.9", "[::1]:3", "the listener: only this host can dial ::1, and etcd is on another; set another by WithAdvertiseAddress"},
		{"listener name", Config{}, "svc.local:3", "10.0.0.9", "svc.local:3", ""},
		{"any", Config{}, "[::]:3", "10.0.0.9", "10.0.0.9:3", ""},
		{"any, mapped", Config{}, "[::ffff:0.0.0.0]:3", "fd00::9", "", "no address for udp4"},
		{"any towards IPv6", Config{}, "[::]:3", "fd00::9", "[fd00::9]:3", ""},
		{"any, IPv4 only, towards IPv6", Config{}, "0.0.0.0:3", "fd00::9", "", "no address for udp4"},
		{"any, of tcp4", Config{Network: "tcp4"}, ":3", "fd00::9", "", "no address for udp4"},
		{"any, of tcp6", Config{Network: "tcp6"}, "[::]:3", "10.0.0.9", "", "no address for udp6"},
		{"any, IPv6 only, towards IPv4", Config{Network: "tcp", V6Only: true}, "[::]:3", "10.0.0.9", "", "set one by WithAdvertiseAddress or GRPC_ADVERTISE_ADDR"},
		{"any, IPv6 only, towards IPv6", Config{Network: "tcp", V6Only: true}, "[::]:3", "fd00::9", "[fd00::9]:3", ""},
		{"option host alone", Config{Option: "10.1.1.1"}, "[::]:3", "10.0.0.9", "10.1.1.1:3", ""},
		{"option IPv6 alone", Config{Option: "fd00::1"}, "[::]:3", "10.0.0.9", "[fd00::1]:3", ""},
		{"option IPv6 in brackets", Config{Option: "[fd00::1]"}, "[::]:3", "10.0.0.9", "[fd00::1]:3", ""},
		{"option any", Config{Option: "0.0.0.0:1"}, "[::]:3", "10.0.0.9", "", "WithAdvertiseAddress: "},
		{"option port 0", Config{Option: "a:0"}, "[::]:3", "10.0.0.9", "", "port"},
		{"option without host", Config{Option: ":1"}, "[::]:3", "10.0.0.9", "", "WithAdvertiseAddress: "},
		{"option loopback", Config{Option: "localhost"}, "[::]:3", "10.0.0.9", "localhost:3", "WithAdvertiseAddress: only this host can dial localhost"},
		{"environment loopback", Config{Env: "127.0.0.1:8"}, "[::]:3", "10.0.0.9", "127.0.0.1:8", "GRPC_ADVERTISE_ADDR: only this host can dial 127.0.0.1"},
		{"bad environment", Config{Env: "unix:/x"}, "[::]:3", "10.0.0.9", "", "GRPC_ADVERTISE_ADDR: "},
		{"port 0", Config{}, "10.0.0.1:0", "10.0.0.9", "", "no port"},
		{"zone", Config{}, "[fe80::1%eth0]:3", "10.0.0.9", "", "link-local"},
		{"link-local", Config{}, "[fe80::1]:3", "10.0.0.9", "", "link-local"},
		{"not an address", Config{}, "a b:3", "10.0.0.9", "", "the listener's address"},
		{"pipe", Config{Network: "bufconn"}, "bufconn", "10.0.0.9", "", "is not host:port; set one by WithAdvertiseAddress"},
		{"pipe with option", Config{Option: "a:1"}, "bufconn", "10.0.0.9", "a:1", ""},
		{"pipe with option without port", Config{Option: "a"}, "bufconn", "10.0.0.9", "", "has no port, and neither has the listener's"},
		{"socket", Config{Network: "unix"}, "x.sock", "10.0.0.9", "", "listen on TCP, or name a TCP address"},
		{"socket by its path", Config{}, "/run/x.sock", "10.0.0.9", "", "Unix socket"},
		{"abstract socket", Config{}, "@x", "10.0.0.9", "", "Unix socket"},
		{"socket without a name", Config{Network: "unix"}, "", "10.0.0.9", "", "Unix socket"},
		{"socket with option", Config{Network: "unix", Option: "a:1"}, "/run/x.sock", "10.0.0.9", "a:1", ""},
		{"socket with option without port", Config{Network: "unix", Option: "a"}, "/run/x.sock", "10.0.0.9", "", "give host:port"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.Etcd = []string{"http://etcd:2379"}
			tt.config.Local = host(tt.local)
			got, says, err := tt.config.Address(t.Context(), tt.listen)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("Address = %q, %v, want %q", got, err, tt.want)
			}
			if err != nil {
				says = err.Error()
				if !strings.HasPrefix(says, "etcd: ") || !strings.Contains(says, "WithAdvertiseAddress") && !strings.Contains(says, EnvName) {
					t.Errorf("the error does not say what to do: %s", says)
				}
			}
			if !strings.Contains(says, tt.says) || (says == "") != (tt.says == "") {
				t.Errorf("says %q, want %q", says, tt.says)
			}
		})
	}
}

// Etcd on loopback: a port that is open on all addresses is announced with one that others can dial.
func TestG28_AddressOfThisHost(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:3", "[::]:3", ":3"} {
		got, warning, err := Config{Etcd: []string{"127.0.0.1:2379"}}.Address(t.Context(), listen)
		if err != nil {
			t.Fatal(err)
		}
		addr, err := netip.ParseAddrPort(got)
		if err != nil || addr.Port() != 3 || addr.Addr().IsUnspecified() || addr.Addr().IsLoopback() != (warning != "") {
			t.Errorf("%s: announces %q, with the warning %q", listen, got, warning)
		}
	}
	got, warning, err := Config{Etcd: []string{"127.0.0.1:2379", "unix:///x"}}.Address(t.Context(), "127.0.0.1:3")
	if got != "127.0.0.1:3" || warning != "" || err != nil {
		t.Errorf("all on loopback: announces %q, %q, %v", got, warning, err)
	}
}

// While names cannot be looked up, the default route may lead elsewhere than to etcd.
func TestG28_AddressWithoutEtcdsName(t *testing.T) {
	for name, missing := range map[string]bool{"no such host": true, "server misbehaving": false} {
		c := Config{Etcd: []string{"etcd"}, Local: func(ctx context.Context, network, addr string) (netip.Addr, error) {
			if slices.Contains(anywhere, addr) {
				return host("10.0.0.9")(ctx, network, addr)
			}
			return netip.Addr{}, &net.OpError{Op: "dial", Err: &net.DNSError{Err: name, IsNotFound: missing}}
		}}
		got, warning, err := c.Address(t.Context(), ":3")
		if missing != (got == "10.0.0.9:3" && warning != "") || missing == errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %q, %q, %v", name, got, warning, err)
		}
	}
}

func TestLookupsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Config{Etcd: []string{"a", "b", "c"}, Local: func(ctx context.Context, network, addr string) (netip.Addr, error) {
			if slices.Contains(anywhere, addr) {
				return host("10.0.0.9")(ctx, network, addr)
			}
			<-ctx.Done()
			return netip.Addr{}, ctx.Err()
		}}
		began := time.Now()
		_, _, err := c.Address(t.Context(), ":3")
		if took := time.Since(began); !errors.Is(err, ErrUnknown) || took != lookupTimeout {
			t.Errorf("names that cannot be looked up: %v, after %v", err, took)
		}
	})
}

func TestHostPorts(t *testing.T) {
	got := hostPorts([]string{"a:1", "http://b:2", "https://c", "d", "[::1]:3", "::1", "unix:///x", "unixs://y:1", "unix:z", "http://%"})
	want := []string{"a:1", "b:2", "c:2379", "d:2379", "[::1]:3", "[::1]:2379"}
	if !slices.Equal(got, want) {
		t.Errorf("hostPorts = %v, want %v", got, want)
	}
}

func TestCheck(t *testing.T) {
	for _, good := range []string{"10.0.0.1:80", "10.0.0.1", "[::1]:80", "::1", "svc:80", "svc", "127.0.0.1:80", "169.254.1.1:80", "123a:80"} {
		if err := Check(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "0.0.0.0", "0.0.0.0:80", "::", "[::]", "[::]:80", "0", "0:80", "[::ffff:0.0.0.0]:80", "123:80",
		"224.0.0.1:80", "[ff02::1]:80", "255.255.255.255:80", "[fe80::1]:80", "[fe80::1%eth0]:80",
	} {
		if Check(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestG28_V6Only(t *testing.T) {
	for _, tt := range []struct {
		network, listen string
		want            bool
	}{
		{"tcp6", "[::]:0", true},
		{"tcp", "[::]:0", false},
		{"tcp", ":0", false},
		{"tcp4", ":0", false},
	} {
		lis, err := net.Listen(tt.network, tt.listen)
		if err != nil {
			t.Skipf("this host cannot listen on %s %s: %v", tt.network, tt.listen, err)
		}
		for _, l := range []net.Listener{lis, hidden{lis}, &hidden{&hidden{lis}}, tls.NewListener(lis, &tls.Config{MinVersion: tls.VersionTLS12})} {
			if got := V6Only(l); got != tt.want {
				t.Errorf("%s %s as %T: IPv6 only %v", tt.network, tt.listen, l, got)
			}
		}
		lis.Close()
		if V6Only(lis) {
			t.Errorf("%s %s: closed, and still known", tt.network, tt.listen)
		}
	}
	loop := &hidden{}
	loop.Listener = loop
	for _, l := range []net.Listener{nil, (*net.TCPListener)(nil), hidden{}, loop, deeper{}, opaque("x")} {
		if V6Only(l) {
			t.Errorf("%T is known to be IPv6 only", l)
		}
	}
}

// hidden is a listener in another, and deeper one in two.
type (
	hidden struct{ net.Listener }
	deeper struct{ *hidden }
)

// opaque is a listener that shows nothing.
type opaque string

func (opaque) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (opaque) Close() error              { return nil }
func (opaque) Addr() net.Addr            { return nil }
