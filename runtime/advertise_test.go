package runtime

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
)

func TestAdvertise(t *testing.T) {
	local := func(text string) func(context.Context, string, string) (netip.Addr, error) {
		return func(_ context.Context, network, _ string) (netip.Addr, error) {
			ip := netip.MustParseAddr(text)
			if network == "udp4" && !ip.Unmap().Is4() {
				return netip.Addr{}, errors.New("no IPv4")
			}
			return ip, nil
		}
	}
	tests := []struct {
		name, option, env, listen, local, want string
	}{
		{"option first", "a:1", "b:2", "10.0.0.1:3", "10.0.0.9", "a:1"},
		{"then environment", "", "b:2", "10.0.0.1:3", "10.0.0.9", "b:2"},
		{"then listener", "", "", "10.0.0.1:3", "10.0.0.9", "10.0.0.1:3"},
		{"listener IPv6", "", "", "[fd00::1]:3", "10.0.0.9", "[fd00::1]:3"},
		{"listener loopback", "", "", "[::1]:3", "10.0.0.9", "[::1]:3"},
		{"listener name", "", "", "svc.local:3", "10.0.0.9", "svc.local:3"},
		{"any IPv4", "", "", "0.0.0.0:3", "10.0.0.9", "10.0.0.9:3"},
		{"any", "", "", "[::]:3", "10.0.0.9", "10.0.0.9:3"},
		{"any, no host", "", "", ":3", "10.0.0.9", "10.0.0.9:3"},
		{"any towards IPv6", "", "", "[::]:3", "fd00::9", "[fd00::9]:3"},
		{"any towards mapped", "", "", "[::]:3", "::ffff:10.0.0.9", "10.0.0.9:3"},
		{"IPv4 only, towards IPv6", "", "", "0.0.0.0:3", "fd00::9", ""},
		{"option host alone", "10.1.1.1", "", "[::]:3", "10.0.0.9", "10.1.1.1:3"},
		{"option IPv6 alone", "fd00::1", "", "[::]:3", "10.0.0.9", "[fd00::1]:3"},
		{"option any", "0.0.0.0:1", "", "[::]:3", "10.0.0.9", ""},
		{"option any alone", "0.0.0.0", "", "[::]:3", "10.0.0.9", ""},
		{"option port 0", "a:0", "", "[::]:3", "10.0.0.9", ""},
		{"option without host", ":1", "", "[::]:3", "10.0.0.9", ""},
		{"bad environment", "", "unix:/x", "[::]:3", "10.0.0.9", ""},
		{"port 0", "", "", "10.0.0.1:0", "10.0.0.9", ""},
		{"link local", "", "", "[fe80::1%eth0]:3", "10.0.0.9", ""},
		{"pipe", "", "", "bufconn", "10.0.0.9", ""},
		{"pipe with option", "a:1", "", "bufconn", "10.0.0.9", "a:1"},
		{"pipe with option without port", "a", "", "bufconn", "10.0.0.9", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := advertiser{option: tt.option, env: tt.env, etcd: []string{"http://etcd:2379"}, local: local(tt.local)}
			got, err := a.address(context.Background(), tt.listen)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("address = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestAdvertiseWithoutEtcdsName(t *testing.T) {
	a := advertiser{etcd: []string{"etcd.invalid:2379"}, local: localAddr}
	got, err := a.address(context.Background(), "0.0.0.0:3")
	if err != nil {
		t.Skipf("this host has no route at all: %v", err)
	}
	if addr := netip.MustParseAddrPort(got); addr.Addr().IsUnspecified() || addr.Port() != 3 {
		t.Errorf("address = %s", got)
	}
}

func TestHostPorts(t *testing.T) {
	got := hostPorts([]string{"a:1", "http://b:2", "https://c", "d", "[::1]:3", "::1", "unix:///x", "unixs://y:1"})
	want := []string{"a:1", "b:2", "c:2379", "d:2379", "[::1]:3", "[::1]:2379"}
	if !slices.Equal(got, want) {
		t.Errorf("hostPorts = %v, want %v", got, want)
	}
}
