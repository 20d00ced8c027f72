//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/term"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// terminal is a pseudo terminal, and what has been written to it.
type terminal struct {
	t             *testing.T
	master, slave *os.File
	written
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	t.Setenv("TERM", "xterm")
	t.Setenv("LC_ALL", "C.UTF-8")
	master, slave, err := pty.Open()
	if err != nil {
		t.Skipf("no pseudo terminal: %v", err)
	}
	p := &terminal{t: t, master: master, slave: slave}
	p.resize(80, 24)
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(p, master) }) // ends with an error when both ends are closed
	t.Cleanup(func() {
		slave.Close()
		master.Close()
		reading.Wait()
	})
	return p
}

func (p *terminal) resize(width, height uint16) {
	p.t.Helper()
	if err := pty.Setsize(p.master, &pty.Winsize{Cols: width, Rows: height}); err != nil {
		p.t.Fatal(err)
	}
}

// forget drops what has been written, so that wait waits for something new.
func (p *terminal) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Reset()
}

func (p *terminal) wait(pattern string) {
	p.t.Helper()
	if err := p.written.wait(pattern); err != nil {
		p.t.Fatal(err)
	}
}

func (p *terminal) press(keys string) {
	p.t.Helper()
	if _, err := p.master.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

const (
	entersScreen = `\x1b\[\?1049h`
	leavesScreen = `\x1b\[\?1049l`
)

// TestWatch_Terminal runs watch on a terminal: it sees a change and another size, and gives the terminal back.
func TestWatch_Terminal(t *testing.T) {
	etcd := etcdtest.Start(t)
	putKey(t, etcd, "acme/user/a", "10.0.0.7:9000")
	args := at(etcd, "watch", "acme/user")
	for name, end := range map[string]func(p *terminal, cancel func()){
		"q":      func(p *terminal, _ func()) { p.press("q") },
		"Ctrl-C": func(p *terminal, _ func()) { p.press("\x03") },
		"signal": func(_ *terminal, cancel func()) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			p := newTerminal(t)
			before, err := term.GetState(int(p.slave.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			code := make(chan int, 1)
			go func() { code <- newApp().execute(ctx, args, p.slave, io.Discard) }()
			p.wait(entersScreen)
			p.wait(`10\.0\.0\.7:9000`)
			putKey(t, etcd, "acme/user/b", "10.0.0.8:9000")
			defer deleteKey(t, etcd, "acme/user/b")
			p.wait(`10\.0\.0\.8:9000`)
			p.forget()
			p.resize(30, 10)
			if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
				t.Fatal(err)
			}
			p.wait(`\x1b\[4;\d+H(\x1b\[m)?(a +)?registered`) // beside the id, where the address was
			end(p, cancel)
			if got := ends(t, code); got != 0 {
				t.Errorf("it ends with %d", got)
			}
			p.wait(leavesScreen)
			if after, err := term.GetState(int(p.slave.Fd())); err != nil || *after != *before {
				t.Errorf("the terminal is not as it was: %v", err)
			}
		})
	}
}

// TestWatch_TerminalPanic has a terminal given back by a program that crashes.
func TestWatch_TerminalPanic(t *testing.T) {
	p := newTerminal(t)
	w := &watch{key: "acme/user"}
	s := newScreen(w)
	s.follow = func(context.Context) error {
		if err := w.show(watched(fullValue)); err != nil {
			return err
		}
		panic("a mistake")
	}
	defer func() {
		if got := fmt.Sprint(recover()); !strings.Contains(got, "a mistake") || !strings.Contains(got, "watchscreen_test.go") {
			t.Errorf("the panic is %q", got)
		}
		p.wait(leavesScreen)
	}()
	t.Errorf("it ended with %v", s.run(t.Context(), p.slave))
}

func TestWatch_TerminalWithoutEtcd(t *testing.T) {
	p := newTerminal(t)
	var errs bytes.Buffer
	code := newApp().execute(t.Context(), []string{"watch", "acme/user", "--endpoints", "127.0.0.1:1"}, p.slave, &errs)
	if code != exitUnable || !strings.Contains(errs.String(), "connection refused") {
		t.Errorf("it ended with %d: %s", code, errs.String())
	}
	if text := p.String(); text != "" {
		t.Errorf("it drew %q", text)
	}
}
