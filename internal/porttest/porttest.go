// Package porttest reserves loopback ports that refuse connections. Closing a
// port is not enough, because another process may soon use it.
package porttest

import (
	"errors"
	"net"
	"testing"
)

// Refuse returns an address that refuses connections until release is called.
// An open connection keeps the port from other processes.
func Refuse() (addr string, release func(), err error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}

	release, err = hold(lis)

	return lis.Addr().String(), release, errors.Join(err, lis.Close())
}

// Refusing returns an address that refuses connections until the test ends.
func Refusing(t testing.TB) string {
	t.Helper()

	addr, release, err := Refuse()
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(release)

	return addr
}

// Hold reserves a listener's port until the test ends: the port refuses
// connections once the listener is closed. Call Hold before any other call
// accepts from the listener.
func Hold(t testing.TB, lis net.Listener) {
	t.Helper()

	release, err := hold(lis)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(release)
}

// hold makes a connection to the listener. The accepted end holds the
// listener's port.
func hold(lis net.Listener) (release func(), err error) {
	far, err := net.Dial("tcp", lis.Addr().String())
	if err != nil {
		return nil, err
	}

	near, err := lis.Accept()
	if err != nil {
		return nil, errors.Join(err, far.Close())
	}

	return func() {
		_ = far.Close() // nothing was sent
		_ = near.Close()
	}, nil
}
