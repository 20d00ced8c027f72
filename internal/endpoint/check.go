package endpoint

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// CheckKey returns an error if a service key breaks the rules that the plugin
// checks.
func CheckKey(key string) error {
	if err := servicekey.Check(key); err != nil {
		return fmt.Errorf("service key %.80q %w", key, err)
	}

	return nil
}

// CheckInstance returns an error if an instance id, the last segment of a key,
// is invalid.
func CheckInstance(id string) error {
	if id == "" {
		return errors.New("the instance id is empty")
	}

	if len(id) > MaxInstance {
		return fmt.Errorf("instance id %.80q has %d bytes, more than %d",
			id, len(id), MaxInstance)
	}

	if err := servicekey.CheckText(id); err != nil {
		return fmt.Errorf("instance id %.80q %w", id, err)
	}

	if strings.Contains(id, "/") {
		return fmt.Errorf("instance id %.80q must not have a slash", id)
	}

	return nil
}

// defaultPort is gRPC's port for an address without a port.
const defaultPort = "443"

// CheckAddr returns an error unless an address is host:port or, without
// needPort, a host alone. The host is a name or an IP address, and the port is
// 1 to 65535.
func CheckAddr(addr string, needPort bool) error {
	_, err := splitAddr(addr, needPort)
	if err != nil {
		return fmt.Errorf("address %.80q: %w", addr, err)
	}

	return nil
}

// withPort returns addr, with the default port if addr has no port. addr has
// been checked.
func withPort(addr string) string {
	host, err := splitAddr(addr, false)
	if err != nil || host == "" {
		return addr
	}

	return net.JoinHostPort(host, defaultPort)
}

// splitAddr checks addr. bare is the host, without brackets, if addr has no
// port; otherwise it is "".
func splitAddr(addr string, needPort bool) (bare string, err error) {
	if addr == "" {
		return "", errors.New("empty")
	}

	if !needPort {
		if bare, ok := bareHost(addr); ok {
			return bare, nil
		}
	}

	if strings.ContainsAny(addr, ",/") {
		return "", errors.New("want a single host:port, without a scheme")
	}

	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", errors.New("want host:port, an IPv6 host in brackets")
	}

	if !servicekey.IsPort(port) {
		return "", errors.New("want a port from 1 to 65535")
	}

	if addr[0] == '[' {
		if !servicekey.IsIPv6(host) {
			return "", errors.New("want an IPv6 address in the brackets, without a zone: other hosts have other interfaces")
		}

		return "", nil
	}

	return "", checkHost(host)
}

// bareHost returns the host of an address without a port, and whether addr is
// such an address.
func bareHost(addr string) (string, bool) {
	if servicekey.IsIPv6(addr) {
		return addr, true
	}

	if inner, ok := strings.CutPrefix(addr, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return inner, ok && servicekey.IsIPv6(inner)
	}

	return addr, !strings.Contains(addr, ":") && checkHost(addr) == nil
}

// checkHost returns an error unless host means the same to every resolver, URL
// parser and dialer, and is safe in a log.
func checkHost(host string) error {
	switch {
	case host == "":
		return errors.New("the host is empty")
	case len(host) > servicekey.MaxHost:
		return fmt.Errorf("the host is longer than %d bytes", servicekey.MaxHost)
	case strings.EqualFold(host, "unix"):
		// gRPC's dialer reads "unix:80" as a socket.
		return errors.New(`the host must not be "unix"`)
	case host[0] == '.' || host[0] == '-':
		return fmt.Errorf("the host must not begin with %q", host[0])
	}

	for i := range len(host) {
		if c := host[i]; !servicekey.IsHostByte(c) {
			return fmt.Errorf("the host must not have %q", c)
		}
	}

	return nil
}
