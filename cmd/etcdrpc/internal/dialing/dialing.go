// Package dialing has the type of functions that connect to instances.
package dialing

import (
	"context"
	"net"
)

// MaxConns bounds concurrent connection attempts.
const MaxConns = 256

// Func opens a TCP connection.
type Func = func(ctx context.Context, network, addr string) (net.Conn, error)
