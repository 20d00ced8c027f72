package connectrpc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	connectgo "connectrpc.com/connect"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/connectetcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/connect"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/connect/connectconnect"
)

// processEnv has the test binary be a server instead, as an order says.
const processEnv = "CONNECTRPC_SERVER"

type order struct {
	Endpoints []string
	Namespace string
	Name      string
}

// serveProcess serves until SIGTERM, and says on its output when etcd has it. It does not outlive its parent.
func serveProcess() (code int) {
	if err := serveAs(os.Getenv(processEnv)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func serveAs(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	client, err := clientv3.New(clientv3.Config{Endpoints: o.Endpoints})
	if err != nil {
		return err
	}
	defer client.Close()
	registry := runtime.NewRegistry(client, runtime.WithNamespace(o.Namespace))
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := connectetcd.NewServer(registry, h2c(), runtime.WithDrainDelay(200*time.Millisecond))
	connectconnect.RegisterLibraryHandlerToEtcd(server, library{name: o.Name}, connectetcd.WithRegisterOptions(runtime.WithInstance(o.Name)))
	go func() {
		for tick := time.Tick(time.Millisecond); !registered(server); <-tick {
		}
		fmt.Println("registered")
	}()
	if err := server.Serve(ctx, lis); err != nil {
		return err
	}
	return registry.Close(context.Background())
}

// fleet is servers that are processes, the oldest first.
type fleet struct {
	w       *world
	started int
	servers []*process
}

type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr strings.Builder
}

// join starts a server, and returns when etcd has it.
func (f *fleet) join() {
	t := f.w.t
	t.Helper()
	text, err := json.Marshal(order{etcd.Endpoints(), f.w.namespace, fmt.Sprint("server", f.started)})
	must(t, err)
	f.started++
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), processEnv+"="+string(text))
	p.cmd.Stderr = &p.stderr
	p.stdin, err = p.cmd.StdinPipe()
	must(t, err)
	stdout, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	f.servers = append(f.servers, p)
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "registered\n" {
		t.Fatalf("a server says %q, %v", line, err)
	}
}

// leave has the oldest server end by a signal.
func (f *fleet) leave(by syscall.Signal) {
	t := f.w.t
	t.Helper()
	p := f.servers[0]
	f.servers = f.servers[1:]
	must(t, p.cmd.Process.Signal(by))
	if err := p.cmd.Wait(); err != nil && by == syscall.SIGTERM {
		t.Errorf("a server that drains: %v\n%s", err, &p.stderr)
	}
}

// No call fails while servers join, drain and are killed, of whichever kind it is, but for two sorts. One is the calls whose
// answer is cut by a kill in the middle: gRPC makes no call again once the headers of an answer have arrived. The other is
// those that two servers fail in a row, the second by a connection that closes while the headers of the request wait to be
// sent: gRPC makes only a first attempt again after that (csAttempt.shouldRetry, v1.85).
func TestNoCallFails(t *testing.T) {
	w := newWorld(t)
	f := &fleet{w: w}
	defer func() {
		for len(f.servers) > 0 {
			f.leave(syscall.SIGKILL)
		}
	}()
	for range 3 {
		f.join()
	}
	const (
		callers = 8
		events  = 18
		calls   = int64(2000)
	)
	client := w.client()
	var made, failed, cut, orphaned atomic.Int64
	step := make(chan struct{}, events)
	var calling sync.WaitGroup
	ctx := kit.Bounded(t, 6*soon)
	for range callers {
		calling.Go(func() {
			for n := made.Add(1); n <= calls; n = made.Add(1) {
				err := kinds[n%int64(len(kinds))](ctx, client, int32(n%5)+1)
				switch {
				case errors.Is(err, errCut):
					cut.Add(1)
				case errors.Is(err, errOrphaned):
					orphaned.Add(1)
				case err != nil:
					failed.Add(1)
					t.Errorf("call %d: %v", n, err)
				}
				if n%(calls/(events+1)) == 0 {
					step <- struct{}{}
				}
			}
		})
	}
	for i := range events {
		select {
		case <-step:
		case <-ctx.Done():
			t.Fatal("the calls do not go on")
		}
		switch i % 3 {
		case 0:
			f.join()
		case 1:
			f.leave(syscall.SIGTERM)
		case 2:
			f.leave(syscall.SIGKILL)
			f.join()
		}
	}
	calling.Wait()
	t.Logf("%d of %d calls failed, %d answers were cut by a kill, and %d calls were orphaned", failed.Load(), calls, cut.Load(), orphaned.Load())
	if most := int64(events / 3); orphaned.Load() > most {
		t.Errorf("%d calls were orphaned; want at most one a kill, which are %d", orphaned.Load(), most)
	}
	if most := int64(callers * events / 3); cut.Load() > most {
		t.Errorf("%d answers were cut; want at most the %d under way at the kills", cut.Load(), most)
	}
}

// errCut is the error of a call whose answer ended in the middle, because its server was killed.
var errCut = errors.New("the answer was cut")

// errOrphaned is the error of a call whose request was not sent when the connection closed, and not for the first time.
var errOrphaned = errors.New("the call was orphaned")

// answered returns the error of a call whose answer had got of want messages when it ended with err, which has the
// headers that had arrived.
func answered(err error, got, want int32) error {
	switch {
	case metaOf(err).Get("Date") != "" && connectgo.CodeOf(err) == connectgo.CodeUnavailable:
		return errCut
	case connectgo.CodeOf(err) == connectgo.CodeUnavailable && strings.HasSuffix(err.Error(), ": transport is closing"):
		return errOrphaned
	case err == nil && got != want:
		return fmt.Errorf("%d messages; want %d", got, want)
	}
	return err
}

// kinds make a call each, of the four kinds of methods, with n messages where they stream.
var kinds = []func(ctx context.Context, client connectconnect.LibraryClient, n int32) error{
	func(ctx context.Context, client connectconnect.LibraryClient, _ int32) error {
		_, err := client.Borrow(ctx, connectgo.NewRequest(&connect.BorrowRequest{}))
		return answered(err, 1, 1)
	},
	func(ctx context.Context, client connectconnect.LibraryClient, n int32) error {
		found, err := client.Search(ctx, connectgo.NewRequest(&connect.SearchRequest{Shelf: n}))
		if err != nil {
			return answered(err, 0, n)
		}
		got := int32(0)
		for found.Receive() {
			got++
		}
		return answered(errors.Join(found.Err(), found.Close()), got, n)
	},
	func(ctx context.Context, client connectconnect.LibraryClient, n int32) error {
		stream := client.Return(ctx)
		for range n {
			if err := stream.Send(&connect.Book{}); err != nil {
				_, err := stream.CloseAndReceive()
				return answered(err, n, n)
			}
		}
		given, err := stream.CloseAndReceive()
		if err != nil {
			return answered(err, n, n)
		}
		return answered(nil, given.Msg.GetBooks(), n)
	},
	func(ctx context.Context, client connectconnect.LibraryClient, n int32) error {
		chat := client.Chat(ctx)
		for range n {
			if err := chat.Send(&connect.Book{Title: "hold"}); err != nil {
				break // Receive says why
			}
		}
		err := chat.CloseRequest()
		for got := int32(0); ; got++ {
			if _, end := chat.Receive(); errors.Is(end, io.EOF) {
				return answered(errors.Join(err, chat.CloseResponse()), got, n)
			} else if end != nil {
				return answered(errors.Join(end, chat.CloseResponse()), got, n)
			}
		}
	},
}
