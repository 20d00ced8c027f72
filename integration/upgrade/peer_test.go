package upgrade

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	_ "google.golang.org/grpc/xds" // for callers whose target is xds:///…

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	pb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

// patience bounds a call. It is longer than the lease of a killed leader.
const patience = 20 * time.Second

// TestMain runs the tests or, with three arguments, a process of a fleet, until
// it is interrupted:
//
//	server INSTANCE -          registers and serves
//	caller FILE etcd|TARGET    calls, and writes reports to a file
//
// A caller fails if a call has failed. The environment has the endpoint of
// etcd, and the directories of snapshots and of leaders.
func TestMain(m *testing.M) {
	if len(os.Args) != 4 {
		os.Exit(m.Run())
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{os.Getenv("ETCDCTL_ENDPOINTS")},
	})
	if err != nil {
		log.Fatal(err)
	}

	registry := runtime.NewRegistry(client, runtime.WithSnapshotDir(os.Getenv("SNAPSHOTS")))

	if os.Args[1] == "server" {
		err = serve(ctx, registry, counter{instance: os.Args[2]})
	} else {
		err = call(ctx, registry, os.Args[2], os.Args[3])
	}

	if err != nil {
		log.Fatal(err)
	}
}

// counter answers with its instance, and with the token of a leader call, or
// the timeout in milliseconds of another call.
type counter struct {
	pb.UnimplementedCounterServer
	instance string
}

func serve(ctx context.Context, registry *runtime.Registry, c counter) error {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}

	guard := leader.Guard(registry, &pb.Counter_EtcdServiceDesc)
	server := registry.NewServer(grpc.NewServer(guard...))
	pb.RegisterCounterServerToEtcd(server, c, runtime.WithInstance(c.instance))

	return server.Serve(ctx, lis)
}

// Add is for the leader.
func (c counter) Add(ctx context.Context, _ *pb.AddRequest) (*pb.AddResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	token, err := strconv.ParseInt(md.Get(leader.TokenHeader)[0], 10, 64)

	return &pb.AddResponse{Server: c.instance, Sum: token}, err
}

func (c counter) Peek(ctx context.Context, _ *pb.AddRequest) (*pb.AddResponse, error) {
	end, _ := ctx.Deadline()
	return &pb.AddResponse{Server: c.instance, Sum: time.Until(end).Milliseconds()}, nil
}

// caller makes calls one after another, and leader calls beside them.
type caller struct {
	ctx context.Context

	mu      sync.Mutex
	calls   int
	called  map[string]bool // the instances that answered since the last report
	timeout int64           // of the last call, in milliseconds
	leads   string          // the instance that answered the last leader call
	newest  int64           // the newest token before the last leader call
	failed  []error
}

// call calls until ctx ends. Calls count once one was answered.
func call(ctx context.Context, registry *runtime.Registry, file, target string) error {
	plaintext := grpc.WithTransportCredentials(insecure.NewCredentials())
	client, err := pb.NewCounterClientFromEtcd(registry, plaintext)
	if err != nil {
		return err
	}

	c := &caller{ctx: ctx, called: map[string]bool{}}
	var calls sync.WaitGroup

	if target == "etcd" {
		add := func(
			ctx context.Context,
			in *pb.AddRequest,
			_ ...grpc.CallOption,
		) (*pb.AddResponse, error) {
			c.newest = newest()
			return client.Add(ctx, in)
		}

		calls.Go(func() { c.repeat(add, c.led) })
	} else {
		conn, err := grpc.NewClient(target, plaintext)
		if err != nil {
			return err
		}

		client = pb.NewCounterClient(conn)
	}

	// gRPC's xDS resolver fails a call that waited while the bridge could not
	// be reached
	for err := errors.New("none yet"); err != nil && ctx.Err() == nil; {
		_, err = client.Peek(ctx, &pb.AddRequest{}, grpc.WaitForReady(true))
	}

	c.repeat(client.Peek, func(answer *pb.AddResponse) error {
		c.timeout = answer.GetSum()
		c.called[answer.GetServer()] = true

		if c.calls%50 != 0 {
			return nil
		}

		text := fmt.Sprintf("calls %s timeout %d leads %s failed %d",
			strings.Join(slices.Sorted(maps.Keys(c.called)), ","), c.timeout, c.leads,
			len(c.failed))
		clear(c.called)

		return os.WriteFile(file, []byte(text), 0o600)
	})

	calls.Wait()
	log.Printf("%d calls, %d failed", c.calls, len(c.failed))

	return errors.Join(c.failed...)
}

// newest returns the highest token of answers to any caller.
func newest() (token int64) {
	files, _ := os.ReadDir(os.Getenv("LEADERS")) // an unreadable one fails led
	for _, f := range files {
		n, _ := strconv.ParseInt(f.Name(), 10, 64)
		token = max(token, n)
	}

	return token
}

// led checks that no other instance has led with the token of an answer, and no
// later leader has answered before the call began.
func (c *caller) led(answer *pb.AddResponse) error {
	if answer.GetSum() < c.newest {
		return fmt.Errorf("the leader %s with the token %d answered after %d", answer.GetServer(),
			answer.GetSum(), c.newest)
	}

	c.leads = answer.GetServer()
	file := filepath.Join(os.Getenv("LEADERS"), strconv.FormatInt(answer.GetSum(), 10))
	if err := os.Symlink(c.leads, file); err == nil {
		return nil
	}

	other, err := os.Readlink(file)
	if other != c.leads {
		err = fmt.Errorf("%s and %s have led with the token %d", other, c.leads, answer.GetSum())
	}

	return err
}

// method is a method of the service.
type method = func(context.Context, *pb.AddRequest, ...grpc.CallOption) (*pb.AddResponse, error)

// repeat calls a method until the caller is interrupted.
func (c *caller) repeat(method method, note func(*pb.AddResponse) error) {
	for ; c.ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		answer, err := method(ctx, &pb.AddRequest{})
		cancel()

		c.mu.Lock()
		c.calls++

		if err == nil {
			err = note(answer)
		}

		if err != nil {
			c.failed = append(c.failed, err)
			log.Print(err)
		}

		c.mu.Unlock()
	}
}
