package show

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

// Process is a running server of the quickstart.
type Process struct {
	Name, Addr string // Addr is the server's address

	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended
	err    error         // exit error, once exited is closed
	stderr bytes.Buffer  // its output, once exited is closed
}

// StartProcess runs the server with an extended environment, and returns once it listens. It is killed when ctx ends.
func StartProcess(ctx context.Context, name string, env []string, binary string, args ...string) (*Process, error) {
	p := &Process{Name: name, exited: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, binary, args...)
	p.cmd.Env = append(os.Environ(), env...)
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
		for lines.Scan() { // so that the process never blocks on output
		}
		p.err = p.cmd.Wait()
	}()
	if !said || !ok {
		return nil, fmt.Errorf("%s does not print its address: %w", name, p.End(os.Kill, time.Minute))
	}
	p.Addr = addr
	return p, nil
}

// End sends the process a signal and waits until it has ended. The error is nil if it exited with 0.
func (p *Process) End(signal os.Signal, limit time.Duration) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !p.Ended() {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	select {
	case <-p.exited:
	case <-time.After(limit):
		return fmt.Errorf("%s still runs %v after %v", p.Name, limit, signal)
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w\n%s", p.Name, p.err, p.stderr.Bytes())
	}
	return nil
}

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}
