package porttest

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

// TestRefusing has others ask for ports: none is given the one that refuses.
func TestRefusing(t *testing.T) {
	addr := Refusing(t)
	for range 100 {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer lis.Close()
		if lis.Addr().String() == addr {
			t.Fatal("the port was given to another")
		}
	}
	if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connecting: %v", err)
	}
}
