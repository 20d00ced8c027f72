package show

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Plaintext is the dial option for connections without TLS.
var Plaintext = grpc.WithTransportCredentials(insecure.NewCredentials())

// Greeter serves a Greeter with the given name, which is also its instance id,
// until stop or the end of the example. It returns once the server is in etcd.
func (s *Stage) Greeter(
	ctx context.Context,
	name string,
	registry *runtime.Registry,
	opts ...runtime.RegisterOption,
) (stop func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}

	// In the drain delay callers notice that the server is leaving, which takes
	// only a moment here.
	server := registry.NewServer(grpc.NewServer(),
		runtime.WithDrainDelay(100*time.Millisecond))
	greeterv1.RegisterGreeterServiceServerToEtcd(server, Greeter{Name: name},
		append(opts, runtime.WithInstance(name))...)

	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(serving, listener) }()

	stop = sync.OnceValue(func() error {
		cancel()

		if err := <-ended; err != nil {
			return fmt.Errorf("server %s: %w", name, err)
		}

		return nil
	})

	s.Later(stop)

	registered := func(context.Context) (bool, error) {
		entries := server.Status()
		pending := slices.ContainsFunc(entries, func(entry runtime.Status) bool {
			return entry.State != runtime.StateRegistered
		})

		return len(entries) > 0 && !pending, nil
	}

	return stop, Until(ctx, name+" is in etcd", registered)
}

// Greeter answers with its name.
type Greeter struct {
	greeterv1.UnimplementedGreeterServiceServer
	Name string
}

// SayHello answers a call.
func (g Greeter) SayHello(
	_ context.Context,
	req *greeterv1.SayHelloRequest,
) (*greeterv1.SayHelloResponse, error) {
	return &greeterv1.SayHelloResponse{
		Text:   "hello, " + req.GetName(),
		Server: g.Name,
	}, nil
}

// Client returns a client of the greeters, with a registry of its own.
func (s *Stage) Client() (greeterv1.GreeterServiceClient, error) {
	registry, err := s.Registry()
	if err != nil {
		return nil, err
	}

	return greeterv1.NewGreeterServiceClientFromEtcd(registry, Plaintext)
}

// Process is a running server of the quickstart.
type Process struct {
	Name, Addr string // Addr is the server's address

	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended
	err    error         // exit error; valid once exited is closed
	stderr bytes.Buffer  // its error output; valid once exited is closed
}

// StartProcess runs the server with an extended environment, and returns once
// the server listens. The end of ctx kills the server.
func StartProcess(
	ctx context.Context,
	name string,
	env []string,
	binary string,
	args ...string,
) (*Process, error) {
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
	lines.Scan() // without a line, the text is ""
	addr, ok := strings.CutPrefix(lines.Text(), "serving on ")

	go func() {
		defer close(p.exited)

		for lines.Scan() { // so that the process never blocks on output
		}

		p.err = p.cmd.Wait()
	}()

	if !ok {
		return nil, fmt.Errorf("%s does not print its address: %w", name,
			p.End(os.Kill, time.Minute))
	}

	p.Addr = addr

	return p, nil
}

// End sends the process a signal and waits until it has ended. The error is nil
// if the process exited with 0.
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
