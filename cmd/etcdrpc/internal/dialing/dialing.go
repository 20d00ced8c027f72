// Package dialing says how etcdrpc connects to instances.
package dialing

import (
	"context"
	"net"
)

// Most bounds the connections that are tried at once.
const Most = 256

// Func opens a TCP connection.
type Func = func(ctx context.Context, network, addr string) (net.Conn, error)
