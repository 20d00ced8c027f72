package world

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// programEnv is the variable with the name of the program that a process runs
// instead of the tests.
const programEnv = "COMPAT_PROGRAM"

// Main runs the tests or, in a process from [World.Start], a program. Call it
// in TestMain. Programs run as processes, because some tests send signals to a
// framework's server, or expect a framework's caller to panic.
func Main(m *testing.M, programs map[string]func(args []string)) {
	program, ok := programs[os.Getenv(programEnv)]
	if !ok {
		os.Exit(m.Run())
	}

	go func() { // ends the program with the test, also if the test is killed
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()

	program(os.Args[1:])
}

// Process is a running program.
type Process struct {
	w      *World
	name   string
	cmd    *exec.Cmd
	output string // the file with its output
	wait   func() error
}

// RegistryAt returns one of our registries, for a program. It is not closed: it
// ends with the process.
func RegistryAt(etcdAddr string) *runtime.Registry {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcdAddr}})
	Check(err)

	return runtime.NewRegistry(client)
}

// Start runs a program in a process of its own, which ends with the test.
func (w *World) Start(program string, args ...string) *Process {
	w.t.Helper()

	p := &Process{
		w:      w,
		name:   program,
		cmd:    exec.Command(os.Args[0], args...),
		output: filepath.Join(w.t.TempDir(), "output"),
	}

	output, err := os.Create(p.output)
	Must(w.t, err)
	defer output.Close() // the process has a descriptor of its own

	p.cmd.Env = append(os.Environ(), programEnv+"="+program)
	p.cmd.Stdout = output
	p.cmd.Stderr = output

	stdin, err := p.cmd.StdinPipe()
	Must(w.t, err)
	Must(w.t, p.cmd.Start())

	p.wait = sync.OnceValue(p.cmd.Wait)
	w.t.Cleanup(func() {
		_ = stdin.Close()
		_ = p.wait() // Terminate or Dies has checked the error, or the test has failed

		if w.t.Failed() {
			w.t.Logf("%s: %s", p.name, p.Output())
		}
	})

	return p
}

// StartServer runs a program like Start, and waits until the program's server
// has added an entry under a service's key. It returns the entry's key. SIGTERM
// stops the server.
func (w *World) StartServer(
	service, program string,
	args ...string,
) (p *Process, key string) {
	w.t.Helper()

	before := w.Entries(service + "/")
	p = w.Start(program, args...)

	w.Eventually(p.Output, func() bool {
		for k := range w.Entries(service + "/") {
			if _, old := before[k]; !old {
				key = k
			}
		}

		return key != ""
	})

	return p, key
}

// Programs returns a function for [migrationtest.Kind] that starts a server.
// The program receives etcd's address and the server's name.
func (w *World) Programs(key, program string) func(name string) (leave, stop func()) {
	return func(name string) (leave, stop func()) {
		p, _ := w.StartServer(key, program, w.EtcdAddr(), name)
		return nil, p.Terminate
	}
}

// Terminate sends SIGTERM to the process and waits until it has ended without
// an error.
func (p *Process) Terminate() {
	p.w.t.Helper()

	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.w.t.Errorf("SIGTERM to %s: %v", p.name, err)
	}

	if err := p.wait(); err != nil {
		p.w.t.Errorf("%s ended with %v, want no error; its output:\n%s", p.name, err,
			p.Output())
	}
}

// Dies waits until the process ends by itself and returns its output.
func (p *Process) Dies() string {
	p.w.t.Helper()

	ended := make(chan error, 1)
	go func() { ended <- p.wait() }()

	select {
	case err := <-ended:
		if err == nil {
			p.w.t.Errorf("%s ended without an error, want one", p.name)
		}

	case <-p.w.Context().Done():
		p.w.t.Fatalf("%s still runs, want that it ends; its output: %s", p.name,
			p.Output())
	}

	return p.Output()
}

// Output returns the output of the process so far.
func (p *Process) Output() string {
	text, err := os.ReadFile(p.output)
	Must(p.w.t, err)

	return string(text)
}
