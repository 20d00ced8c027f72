//go:build unix

package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// What shells exit with when they cannot start a program, and what stands for a status that the system withholds, as it
// does from whoever was started with SIGCHLD ignored.
const (
	codeUnknown       = 1
	codeNotExecutable = 126
	codeNotFound      = 127
)

// Signals returns the signals that a supervisor takes for its command.
func Signals() []os.Signal {
	return []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}
}

func signalOf(s os.Signal) Signal {
	if s, ok := s.(syscall.Signal); ok {
		return Signal(s)
	}
	return Terminate
}

// process is a command that runs, in a process group of its own.
type process struct {
	cmd      *exec.Cmd
	children chan os.Signal // nil: orphans are somebody else's to reap
}

// start starts a command with the files and the environment of this process. A terminal is no input for it: whoever
// reads from one must be in its foreground, where ^C would not reach the supervisor.
func start(args []string) (p *process, code int, err error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		cmd.Stdin = os.Stdin
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p = &process{cmd: cmd}
	if reaps() {
		p.children = make(chan os.Signal, 1)
		signal.Notify(p.children, syscall.SIGCHLD)
	}
	err = cmd.Start()
	switch {
	case err == nil:
		return p, 0, nil
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		code = codeNotFound
	default:
		code = codeNotExecutable
	}
	if p.children != nil {
		signal.Stop(p.children)
	}
	return nil, code, fmt.Errorf("start %q: %w", args[0], err)
}

// wait tells how the command's own process ended. Who has to reap orphans goes on with that until ctx ends.
func (p *process) wait(ctx context.Context, exited func(Exit)) {
	if p.children != nil {
		p.reap(ctx, exited)
		return
	}
	_ = p.cmd.Wait() // an error says how it ended, which the status says better
	if p.cmd.ProcessState == nil {
		exited(Exit{Code: codeUnknown})
		return
	}
	exited(exitOf(p.cmd.ProcessState.Sys().(syscall.WaitStatus)))
}

// reap reaps every child of this process: the command, and orphans that became its children. To wait for the command by
// itself as well would be a race about its status.
func (p *process) reap(ctx context.Context, exited func(Exit)) {
	defer signal.Stop(p.children)
	for {
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if err != nil || pid <= 0 {
				break
			}
			if pid == p.cmd.Process.Pid {
				exited(exitOf(status))
			}
		}
		select {
		case <-p.children:
		case <-ctx.Done():
			return
		}
	}
}

func exitOf(status syscall.WaitStatus) Exit {
	if status.Signaled() {
		return Exit{Signal: Signal(status.Signal())}
	}
	return Exit{Code: status.ExitStatus()}
}

// signal sends a signal to the process group. That there is nobody left to hear it is no error.
func (p *process) signal(s Signal) { _ = syscall.Kill(-p.cmd.Process.Pid, syscall.Signal(s)) }

// gone reports whether nobody is left in the process group to whom a signal can be sent.
func (p *process) gone() bool { return syscall.Kill(-p.cmd.Process.Pid, 0) != nil }
