package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// process is one running server of the quickstart.
type process struct {
	name string
	addr string // where it serves
	cmd  *exec.Cmd

	exited chan struct{} // closed when it has ended
	err    error         // how, once exited is closed
	stderr bytes.Buffer  // what it said last, once exited is closed
}

// startProcess runs the server and returns once it listens. It is killed when ctx ends.
func startProcess(ctx context.Context, name, binary string, etcd []string) (*process, error) {
	p := &process{name: name, exited: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, binary, "-etcd", strings.Join(etcd, ","))
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	lines := bufio.NewScanner(stdout)
	said := lines.Scan()
	addr, ok := strings.CutPrefix(lines.Text(), "serving on ")
	go func() {
		defer close(p.exited)
		for lines.Scan() { // so that it never waits for a reader
		}
		p.err = p.cmd.Wait()
	}()
	if !said || !ok {
		return nil, fmt.Errorf("%s does not say where it serves: %w", name, p.end(os.Kill, time.Minute))
	}
	p.addr = addr
	return p, nil
}

// end sends the process a signal and waits until it has ended. The error tells how it did, nil for
// an exit code of 0.
func (p *process) end(signal os.Signal, limit time.Duration) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !p.ended() {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	select {
	case <-p.exited:
	case <-time.After(limit):
		return fmt.Errorf("%s still runs %v after %v", p.name, limit, signal)
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w\n%s", p.name, p.err, p.stderr.Bytes())
	}
	return nil
}

func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}
