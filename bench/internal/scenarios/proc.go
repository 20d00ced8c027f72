package scenarios

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// proc is a child, seen from the parent.
type proc struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
}

func (b *bench) spawn(p params) (*proc, error) {
	program, err := b.program(p.Peer)
	if err != nil {
		return nil, err
	}
	arg, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, childFlag, string(arg))
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "ETCD_CLIENT_DEBUG=fatal") // has etcd clients log that and above
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &proc{cmd: cmd, stdin: stdin, lines: make(chan string)}
	go func() {
		defer close(c.lines)
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			c.lines <- lines.Text()
		}
	}()
	return c, nil
}

// program returns the program of a peer's processes, which is this one for all but go-zero's.
func (b *bench) program(peer string) (string, error) {
	if sameProgram(peer, peerGoZero) {
		return b.GoZero, nil
	}
	return os.Executable()
}

// sameProgram reports whether two peers are linked into one program.
func sameProgram(a, b string) bool { return (a == peerGoZero) == (b == peerGoZero) }

// spawnTo is spawn, and waits until the child is at word.
func (b *bench) spawnTo(p params, word string, within time.Duration) (*proc, error) {
	child, err := b.spawn(p)
	if err != nil {
		return nil, err
	}
	if err := child.await(word, within); err != nil {
		child.end()
		return nil, err
	}
	return child, nil
}

var errLate = errors.New("the child process took too long")

// line is the next that the child says.
func (p *proc) line(within time.Duration) (string, error) {
	select {
	case line, ok := <-p.lines:
		if !ok {
			return "", errors.New("the child process ended early")
		}
		return line, nil
	case <-time.After(within):
		return "", errLate
	}
}

// await waits until the child is at word, where it then stands until tell.
func (p *proc) await(word string, within time.Duration) error {
	line, err := p.line(within)
	if err == nil && line != word {
		err = fmt.Errorf("the child process says %q, not %q", line, word)
	}
	return err
}

// tell has the child go on.
func (p *proc) tell() error {
	_, err := fmt.Fprintln(p.stdin)
	return err
}

// ask has a child that answers do so, and takes its answer.
func (p *proc) ask(answer any) error {
	if err := p.tell(); err != nil {
		return err
	}
	line, err := p.line(patience)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(line), answer)
}

// finish has the child go on to its end, and returns what it has measured.
func (p *proc) finish(within time.Duration) (map[string]float64, error) {
	if err := p.tell(); err != nil {
		return nil, err
	}
	return p.values(within)
}

// values are what the child has measured. The child ends.
func (p *proc) values(within time.Duration) (map[string]float64, error) {
	line, err := p.line(within)
	if err != nil {
		return nil, err
	}
	values := make(map[string]float64)
	if err := json.Unmarshal([]byte(line), &values); err != nil {
		return nil, fmt.Errorf("the child process says %q: %w", line, err)
	}
	return values, p.cmd.Wait()
}

// end kills the child if it still runs.
func (p *proc) end() {
	_ = p.cmd.Process.Kill() // it has ended if it cannot be killed
	for range p.lines {
	}
	_ = p.cmd.Wait() // killed, or waited for already
}
