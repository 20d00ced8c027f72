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

// serverPackage is what the image of the manifest would run.
const serverPackage = "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/server"

// Grace is the terminationGracePeriodSeconds of the manifest.
const Grace = 40 * time.Second

// Example is what the command in the directory above runs.
var Example = show.Example{Name: "kubernetes", Tell: tell}

func tell(ctx context.Context, stage *show.Stage) error {
	binary := filepath.Join(stage.Dir, "server")
	if output, err := exec.CommandContext(ctx, "go", "build", "-o", binary, serverPackage).CombinedOutput(); err != nil {
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
func startPod(ctx context.Context, stage *show.Stage, name, binary string) (*show.Process, error) {
	// A host alone: the port is the listener's. In a pod this is the Downward API's status.podIP.
	env := []string{"GRPC_ADVERTISE_ADDR=127.0.0.1"}
	pod, err := show.StartProcess(ctx, name, env, binary, "-etcd="+strings.Join(stage.Etcd.Endpoints(), ","), "-listen=0.0.0.0:0")
	if err != nil {
		return nil, err
	}
	stage.Later(func() error {
		if !pod.Ended() {
			_ = pod.End(os.Kill, Grace) // the example has failed: how it ends tells nothing
		}
		return nil
	})
	return pod, nil
}

// terminate does what the kubelet does: SIGTERM, and the grace period to exit in.
func terminate(stage *show.Stage, pod *show.Process) error {
	asked := time.Now()
	if err := pod.End(syscall.SIGTERM, Grace); err != nil {
		return err
	}
	stage.Say("SIGTERM: %s left etcd, finished its calls and exited with 0, in %v of the %v that it has",
		pod.Name, time.Since(asked).Round(time.Millisecond), Grace)
	return nil
}
