package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	descriptorLimit = 512
	memoryLimit     = "1GiB"
	// tick is the unit of the processor times in /proc.
	tick = time.Second / 100
)

// process is a caller, as its parent has it.
type process struct {
	cmd    *exec.Cmd
	in     io.Closer
	remote *rpc.Client
	ended  chan struct{} // closed once it has ended
	stderr tail
}

// startProcess starts a caller with its limits.
func startProcess(o orders) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	p := &process{ended: make(chan struct{})}
	p.cmd = exec.Command("/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0"`, descriptorLimit), self)
	p.cmd.Env = append(os.Environ(), callerEnv+"="+string(text), "GOMEMLIMIT="+memoryLimit)
	out, stdout := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = stdout, &p.stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait()   // what it wrote to stderr says why
		_ = stdout.Close() // which cannot fail
		close(p.ended)
	}()
	p.in, p.remote = in, rpc.NewClient(pipe{out, in})
	return p, nil
}

// call calls the caller's remote.
func (p *process) call(within time.Duration, method string, argument, answer any) error {
	select {
	case call := <-p.remote.Go("caller."+method, argument, answer, nil).Done:
		return call.Error
	case <-p.ended:
		return p.failure()
	case <-time.After(within):
		return fmt.Errorf("no answer in %v", within)
	}
}

// awaitReady returns once every honest service has answered.
func (p *process) awaitReady() error {
	if err := p.call(2*patience, "Ready", patience, new(bool)); err != nil {
		return fmt.Errorf("start the caller: %w", err)
	}
	return nil
}

// count asks what the caller has done since it was last asked.
func (p *process) count() (Counts, error) {
	answer := new(Counts)
	err := p.call(20*time.Second, "Count", true, answer)
	if err != nil {
		return Counts{}, fmt.Errorf("count: %w", err)
	}
	return *answer, nil
}

// failure says how the process ended.
func (p *process) failure() error {
	const long = 2 << 10
	text := p.stderr.head()
	for _, cause := range []string{"panic: ", "fatal error: "} {
		if i := strings.Index(text, cause); i >= 0 {
			text = text[i:]
		}
	}
	return fmt.Errorf("the caller ended: %.*s", long, text)
}

// stop ends the caller, in order where it does so in time.
func (p *process) stop() {
	p.in.Close()
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill() // or it has ended by now
		<-p.ended
	}
}

// usage is what a process takes of the machine.
type usage struct {
	at          time.Time
	processor   time.Duration // since it started
	peak        int           // of its resident memory since the last resetPeak, in KiB
	descriptors int
}

func (p *process) proc(name string) string {
	return fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name)
}

// resetPeak begins the measuring of the peak anew.
func (p *process) resetPeak() error { return os.WriteFile(p.proc("clear_refs"), []byte("5"), 0) }

// usage reads what the process takes.
func (p *process) usage() (usage, error) {
	u := usage{at: time.Now()}
	stat, err := os.ReadFile(p.proc("stat"))
	if err != nil {
		return u, err
	}
	// The command's name, in parentheses, may hold anything; the state is field 3.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return u, fmt.Errorf("%s: %q", p.proc("stat"), stat)
	}
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.Atoi(field)
		if err != nil {
			return u, err
		}
		u.processor += time.Duration(n) * tick
	}
	status, err := os.ReadFile(p.proc("status"))
	if err != nil {
		return u, err
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(peak, &u.peak); err != nil {
		return u, fmt.Errorf("%s has no VmHWM: %w", p.proc("status"), err)
	}
	descriptors, err := os.ReadDir(p.proc("fd"))
	u.descriptors = len(descriptors)
	return u, err
}

// tail keeps the beginning of what is written, and counts the lines.
type tail struct {
	mu    sync.Mutex
	text  []byte
	lines int
}

func (t *tail) Write(text []byte) (int, error) {
	const kept = 64 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines += bytes.Count(text, []byte("\n"))
	t.text = append(t.text, text[:min(len(text), kept-len(t.text))]...)
	return len(text), nil
}

func (t *tail) head() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// take returns how many lines there were since it was last called.
func (t *tail) take() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.lines
	t.lines = 0
	return n
}
