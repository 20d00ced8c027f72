package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

const (
	// childEnv names the variable with the params of a measured process.
	childEnv = "BENCH_CHILD"

	// goZeroEnv names the variable with the path of the go-zero program.
	goZeroEnv = "BENCH_GOZERO"

	// patience is the longest wait for the next value of a measured process.
	patience = time.Minute
)

// params configures a child.
type params struct {
	Role string // one of roles
	Peer string
	Etcd []string // addresses of etcd
	Key  string   // the key of the service
	Size int      // the number of endpoints at the start

	// Conns is the number of connections, of callers on one connection, or of
	// servers.
	Conns int

	Changes  int
	Lasts    time.Duration // the duration of the measurement
	Backends []string      // addresses of servers
}

// proc is a measured process, as seen by its parent. The child sends lines of
// JSON, the parent sends empty lines.
type proc struct {
	params
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// start starts a child and reads its first value into v.
func (r *run) start(p params, v any) (*proc, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}

	if p.Peer == peerGoZero {
		program = os.Getenv(goZeroEnv)
	}

	arg, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}

	child := &proc{params: p, cmd: exec.Command(program)}
	child.cmd.Stderr = os.Stderr

	// ETCD_CLIENT_DEBUG silences etcd clients
	child.cmd.Env = append(os.Environ(), childEnv+"="+string(arg),
		"ETCD_CLIENT_DEBUG=fatal")

	child.in, err = child.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}

	out, err := child.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}

	child.out = json.NewDecoder(out)
	if err := child.cmd.Start(); err != nil {
		return nil, err
	}

	if err := child.hear(v); err != nil {
		child.end()
		return nil, err
	}

	return child, nil
}

// ready puts p.Size endpoints of a service in etcd, starts a child, and waits
// until the child has received them.
func (r *run) ready(p params) (*proc, error) {
	if err := r.etcd.putAll(styleOf(p.Peer, p.Key), 0, p.Size); err != nil {
		return nil, err
	}

	p.Etcd = r.etcd.client.Endpoints()

	return r.start(p, new(any))
}

// alone deletes all keys in etcd, runs one child on the service of serviceKey,
// and returns the child's figures.
func (r *run) alone(p params) (figures, error) {
	p.Key = serviceKey

	if err := r.etcd.clear(); err != nil {
		return nil, err
	}

	child, err := r.ready(p)
	if err != nil {
		return nil, err
	}
	defer child.end()

	return child.ask()
}

// hear reads the child's next value into v. It kills the child if no value
// arrives within patience.
func (p *proc) hear(v any) error {
	// Kill fails if the process has ended
	late := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()

	if err := p.out.Decode(v); err != nil {
		return fmt.Errorf(
			"the process %s of %s has ended, or has sent nothing for %v: %w", p.Role,
			p.Peer, patience, err)
	}

	return nil
}

// ask lets the child continue and returns its figures.
func (p *proc) ask() (values figures, err error) {
	if _, err := fmt.Fprintln(p.in); err != nil {
		return nil, err
	}

	err = p.hear(&values)

	return values, err
}

// end kills the child if it still runs.
func (p *proc) end() {
	_ = p.cmd.Process.Kill() // Kill fails if the process has ended
	_ = p.cmd.Wait()         // the error reports the kill
}
