// Package kubernetes shows what happens when Kubernetes replaces a pod. Run it from the directory above:
//
//	go run . kubernetes
//
// greeter.yaml has the manifests: the pod's address by the Downward API, a readiness that means "in
// etcd", a grace period that is longer than the server takes, and no preStop hook. The example does
// with processes what a rolling update does with pods: it starts the quickstart's server with the
// environment of the manifest, starts a second one, and when that is called, sends the first SIGTERM. That one
// has to leave etcd, finish its calls and exit with 0 within the grace period, while calls go on without
// a pause. It exits with 1 when it does not, or when a call fails.
package kubernetes

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
)

// serverPackage is what the image of the manifest would run.
const serverPackage = "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/server"

// Grace is the terminationGracePeriodSeconds of the manifest.
const Grace = 40 * time.Second

// Example is what the command in the directory above runs.
var Example = show.Example{Name: "kubernetes", Tell: tell}

func tell(ctx context.Context, stage *show.Stage) (err error) {
	dir, err := os.MkdirTemp("", "kubernetes")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "server")
	if output, err := exec.CommandContext(ctx, "go", "build", "-o", binary, serverPackage).CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", serverPackage, err, output)
	}
	before, err := startPod(ctx, stage, binary)
	if err != nil {
		return err
	}
	defer before.kill()
	calls, err := callers(ctx, stage)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, calls.Stop()) }()
	if err := reach(ctx, stage, calls, before.addr); err != nil {
		return err
	}
	stage.Say("a pod listens on all addresses, and is called at its own")

	after, err := startPod(ctx, stage, binary)
	if err != nil {
		return err
	}
	defer after.kill()
	if err := reach(ctx, stage, calls, before.addr, after.addr); err != nil {
		return err
	}
	stage.Say("its successor is called as well")
	if err := before.terminate(stage); err != nil {
		return err
	}
	if err := reach(ctx, stage, calls, after.addr); err != nil {
		return err
	}
	if err := calls.Stop(); err != nil {
		return err
	}
	stage.Say("of %d calls none failed", calls.Total())
	return after.terminate(stage)
}

// pod is a server process with the environment of the manifest.
type pod struct {
	cmd    *exec.Cmd
	addr   string // that it prints, which is where it listens
	log    bytes.Buffer
	exited chan error
}

// startPod starts a server and returns when it listens.
func startPod(ctx context.Context, stage *show.Stage, binary string) (*pod, error) {
	cmd := exec.CommandContext(ctx, binary, "-etcd="+strings.Join(stage.Etcd.Endpoints(), ","), "-listen=0.0.0.0:0")
	// A host alone: the port is the listener's. In a pod this is the Downward API's status.podIP.
	cmd.Env = append(os.Environ(), "GRPC_ADVERTISE_ADDR=127.0.0.1")
	p := &pod{cmd: cmd, exited: make(chan error, 1)}
	cmd.Stderr = &p.log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(stdout)
	said := lines.Scan()
	go func() {
		for lines.Scan() { // so that it never waits for a reader
		}
		p.exited <- cmd.Wait()
	}()
	addr, ok := strings.CutPrefix(lines.Text(), "serving on ")
	if !said || !ok {
		p.kill()
		return nil, fmt.Errorf("the server does not say where it serves, but %q\n%s", lines.Text(), p.log.Bytes())
	}
	p.addr = addr
	return p, nil
}

// terminate does what the kubelet does: SIGTERM, and the grace period to exit in.
func (p *pod) terminate(stage *show.Stage) error {
	asked := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-p.exited:
		p.exited <- err // for kill
		if err != nil {
			return fmt.Errorf("a pod that is told to stop exits with 0: %w\n%s", err, p.log.Bytes())
		}
		stage.Say("SIGTERM: it left etcd, finished its calls and exited with 0, in %v of the %v that it has",
			time.Since(asked).Round(time.Millisecond), Grace)
		return nil
	case <-time.After(Grace):
		return fmt.Errorf("a pod still runs %v after SIGTERM, and Kubernetes would kill it", Grace)
	}
}

// kill ends what may still run.
func (p *pod) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	p.exited <- <-p.exited
}

func callers(ctx context.Context, stage *show.Stage) (*show.Load, error) {
	registry, err := stage.Registry()
	if err != nil {
		return nil, err
	}
	client, err := greeterv1.NewGreeterServiceClientFromEtcd(registry, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return show.StartLoad(ctx, client, func() {}), nil
}

// reach waits until calls reach exactly these servers.
func reach(ctx context.Context, stage *show.Stage, calls *show.Load, servers ...string) error {
	return stage.Until(ctx, fmt.Sprintf("calls reach %v", servers), func(ctx context.Context) (bool, error) {
		shares, err := calls.Next(ctx, 50*time.Millisecond)
		return shares.Only(servers...), err
	})
}
