package listener

import (
	"errors"
	"io"
	"syscall"

	"google.golang.org/grpc/mem"
)

// reader reads without a buffer while there is nothing to read.
type reader struct {
	raw  syscall.RawConn
	try  func(fd uintptr) bool
	pool mem.BufferPool
	size int

	buf *[]byte
	n   int
	err error
}

// ReadOnReady is for gRPC, which reads so from a *net.TCPConn, on Linux only: otherwise it keeps a buffer of 32 KiB for each
// connection that is idle. It is called by one goroutine at a time.
func (c *conn) ReadOnReady(size int, pool mem.BufferPool) (*[]byte, int, error) {
	r := &c.reader
	if r.raw == nil {
		raw, err := c.SyscallConn()
		if err != nil {
			return nil, 0, err
		}
		r.raw, r.try = raw, r.read
	}
	r.size, r.pool, r.buf, r.n, r.err = size, pool, nil, 0, nil
	if err := r.raw.Read(r.try); err != nil {
		return nil, 0, err
	}
	c.heard(r.n)
	return r.buf, r.n, r.err
}

// read reports whether it has come to an end: something, the connection's end, or an error.
func (r *reader) read(fd uintptr) bool {
	r.buf = r.pool.Get(r.size)
	r.n, r.err = syscall.Read(int(fd), *r.buf)
	if r.err == nil && r.n == 0 {
		r.err = io.EOF
	}
	if r.err != nil {
		r.pool.Put(r.buf)
		r.buf, r.n = nil, 0
	}
	return !errors.Is(r.err, syscall.EAGAIN)
}
