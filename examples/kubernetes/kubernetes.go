// Package kubernetes replaces a pod as Kubernetes does. Run it from the
// directory above:
//
//	go run . kubernetes
//
// greeter.yaml has the manifests: the pod's address from the Downward API, a
// readiness probe that means "in etcd", a grace period longer than the server's
// shutdown, and no preStop hook. The example does with processes what a rolling
// update does with pods. It starts the quickstart's server with the environment
// of the manifest, starts a second server and, once the second receives calls,
// sends SIGTERM to the first. The first server must leave etcd, finish its
// calls and exit with 0 within the grace period, while calls go on. Otherwise,
// or if a call fails, the command exits with 1.
package kubernetes

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
)

// serverPackage is the program in the manifest's image.
const serverPackage = "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/server"

// Grace is the terminationGracePeriodSeconds of the manifest.
const Grace = 40 * time.Second

// Example is the entry point for the command in the directory above.
var Example = show.Example{Name: "kubernetes", Play: play}

func play(ctx context.Context, stage *show.Stage) error {
	binary := filepath.Join(stage.Dir, "server")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, serverPackage)
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", serverPackage, err, output)
	}

	before, err := startPod(ctx, stage, "the pod", binary)
	if err != nil {
		return err
	}

	client, err := stage.Client()
	if err != nil {
		return err
	}

	calls := stage.Load(ctx, client)
	if err := stage.Reach(ctx, calls, before.Addr); err != nil {
		return err
	}

	stage.Say("a pod listens on all addresses, and is called at its own")

	after, err := startPod(ctx, stage, "its successor", binary)
	if err != nil {
		return err
	}

	if err := stage.Reach(ctx, calls, before.Addr, after.Addr); err != nil {
		return err
	}

	stage.Say("its successor is called as well")

	if err := terminate(stage, before); err != nil {
		return err
	}

	if err := stage.Reach(ctx, calls, after.Addr); err != nil {
		return err
	}

	if err := calls.Stop(); err != nil {
		return err
	}

	stage.Say("of %d calls none failed", calls.Total())

	return terminate(stage, after)
}

// startPod starts a server with the environment of the manifest.
func startPod(
	ctx context.Context,
	stage *show.Stage,
	name, binary string,
) (*show.Process, error) {
	// A host without a port: the port is the listener's. In a pod this is the
	// Downward API's status.podIP.
	env := []string{"GRPC_ADVERTISE_ADDR=127.0.0.1"}
	pod, err := show.StartProcess(ctx, name, env, binary,
		"-etcd="+strings.Join(stage.Etcd.Endpoints(), ","), "-listen=0.0.0.0:0")
	if err != nil {
		return nil, err
	}

	stage.Later(func() error {
		if !pod.Ended() {
			// the example has failed: the exit code does not matter
			_ = pod.End(os.Kill, Grace)
		}

		return nil
	})

	return pod, nil
}

// terminate stops a pod as the kubelet does: it sends SIGTERM, and waits for
// the grace period.
func terminate(stage *show.Stage, pod *show.Process) error {
	asked := time.Now()

	if err := pod.End(syscall.SIGTERM, Grace); err != nil {
		return err
	}

	stage.Say("SIGTERM: %s left etcd, finished its calls and exited with 0, in %v of the %v that it has",
		pod.Name, time.Since(asked).Round(time.Millisecond), Grace)

	return nil
}
