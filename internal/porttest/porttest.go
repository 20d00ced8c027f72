// Package porttest has ports of loopback refuse connections for tests. A port that was merely closed is soon another's.
package porttest

import (
	"errors"
	"net"
	"testing"
)

// Refuse returns an address that refuses connections until release is called. One end of a connection has its port, so that
// nobody else is given it.
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

// Hold has the port of a listener be nobody else's until the test ends: it refuses connections once the listener is closed.
// It must be called before anybody else accepts from the listener.
func Hold(t testing.TB, lis net.Listener) {
	t.Helper()
	release, err := hold(lis)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
}

// hold makes a connection that has the listener's port. What it accepts has it, whoever connects.
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
