package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// visitors is the number of the first address that honest instances come and go at, beyond those of any way.
const visitors = 1 << 20

// traps are what hostile entries lead to. Each listens on all of 127.0.0.0/8, so one port has as many addresses as
// there are entries.
type traps struct {
	serving net.Listener // gRPC servers
	silent  net.Listener // accepts, and says nothing
	closing net.Listener // accepts, and closes
	web     net.Listener // answers in HTTP/1.1
	dns     net.PacketConn
	grpc    *grpc.Server

	mu   sync.Mutex
	held map[net.Conn]struct{}
	done sync.WaitGroup
}

func newTraps() (*traps, error) {
	t := &traps{grpc: grpc.NewServer(), held: make(map[net.Conn]struct{})}
	basic.RegisterGreeterServer(t.grpc, greeter{})
	for _, lis := range []*net.Listener{&t.serving, &t.silent, &t.closing, &t.web} {
		var err error
		if *lis, err = net.Listen("tcp4", "0.0.0.0:0"); err != nil {
			t.close()
			return nil, err
		}
	}
	var err error
	if t.dns, err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
		t.close()
		return nil, err
	}
	t.done.Go(func() { _ = t.grpc.Serve(t.serving) }) // until it is stopped
	t.done.Go(func() { t.accept(t.silent, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }) })
	t.done.Go(func() { t.accept(t.closing, func(net.Conn) {}) })
	t.done.Go(func() { t.accept(t.web, answerAsWeb) })
	return t, nil
}

// accept hands each connection to serve, and closes it afterwards.
func (t *traps) accept(lis net.Listener, serve func(net.Conn)) {
	for {
		conn, err := lis.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors, for a moment
			continue
		}
		t.mu.Lock()
		t.held[conn] = struct{}{}
		t.mu.Unlock()
		t.done.Go(func() {
			serve(conn)
			t.mu.Lock()
			defer t.mu.Unlock()
			conn.Close()
			delete(t.held, conn)
		})
	}
}

// answerAsWeb answers once, in the wrong protocol.
func answerAsWeb(conn net.Conn) {
	if _, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
		fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
	}
}

// addr is the address with a number at a trap.
func (t *traps) addr(trap net.Listener, n int) string {
	port := trap.Addr().(*net.TCPAddr).Port
	return fmt.Sprintf("127.%d.%d.%d:%d", 1+n>>16, n>>8&0xff, n&0xff, port)
}

// drop closes the connections that are held.
func (t *traps) drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for conn := range t.held {
		conn.Close()
	}
}

func (t *traps) close() {
	t.grpc.Stop()
	for _, lis := range []net.Listener{t.serving, t.silent, t.closing, t.web} {
		if lis != nil {
			lis.Close()
		}
	}
	if t.dns != nil {
		_ = t.dns.Close() // nothing is left that an error could change
	}
	t.drop()
	t.done.Wait()
}
