// Package shop generates the code, and tests the services together, as they are
// deployed.
package shop

//go:generate go tool protoc-gen-go-etcd export third_party/etcd
//go:generate go tool -modfile=tools/go.mod buf generate

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	shopv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/shop/gen/shop/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// build builds the programs, and makes users and secrets. In this test, all
// services share one self-signed certificate.
const build = `
go build -o "$DIR" ./orders ./stock go.etcd.io/etcd/etcdctl/v3
echo secret >"$DIR/password"
for user in stock 'orders stock' 'frontend orders'; do sh deploy/roles.sh $user <"$DIR/password"; done
cd "$DIR"
go run "$(go env GOROOT)/src/crypto/tls/generate_cert.go" -host=shop.orders,shop.stock -ecdsa-curve=P256
cat cert.pem "$ETCDCTL_CACERT" >ca.pem`

func TestShop(t *testing.T) {
	etcd := etcdtest.Start(t, etcdtest.WithTLS(), etcdtest.WithAuth("root's"))
	dir := t.TempDir()
	for name, value := range map[string]string{
		"PATH":                    dir + string(filepath.ListSeparator) + os.Getenv("PATH"),
		"DIR":                     dir,
		"LISTEN":                  "127.0.0.1:0",
		"ETCD":                    etcd.Endpoints()[0],
		"ETCDCTL_ENDPOINTS":       etcd.Endpoints()[0],
		"ETCDCTL_CACERT":          etcd.CAFile(),
		"ETCDCTL_USER":            "root:root's",
		"ETCDCTL_COMMAND_TIMEOUT": "1m",
	} {
		t.Setenv(name, value)
	}

	run(t, build)
	start(t, "stock", "v1")
	start(t, "stock", "v2")
	start(t, "orders", "v1")

	registry := runtime.NewRegistry(etcd.Client(t, etcdtest.As("frontend", "secret")))
	t.Cleanup(func() { registry.Close(context.Background()) })

	creds, err := credentials.NewClientTLSFromFile(filepath.Join(dir, "ca.pem"), "")
	if err != nil {
		t.Fatal(err)
	}

	client, err := shopv1.NewOrdersServiceClientFromEtcd(registry,
		grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}

	waitForShare(t, client, 50)
	run(t, `etcdctl put _grpc_config/shop/stock "$(cat deploy/canary.json)"`)
	waitForShare(t, client, 10)

	foreign := runtime.Endpoint{Addr: "10.6.6.6:80"}
	if _, err := registry.Register(t.Context(), "shop/stock", foreign); err == nil {
		t.Error("a caller registers a server, want an error")
	}

	etcd.Cut()
	t.Cleanup(etcd.Restore) // before the processes end, which delete their entries
	waitForShare(t, client, 10)
}

// waitForShare makes 100 calls at a time until v2 serves want of them, plus or
// minus 2. All calls must succeed.
func waitForShare(t *testing.T, client shopv1.OrdersServiceClient, want int) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()

	for share := -100; share < want-2 || share > want+2; {
		share = 0
		for range 100 {
			reply, err := client.PlaceOrder(ctx, &shopv1.PlaceOrderRequest{Item: "tea"})
			if err != nil {
				t.Fatalf("while calls were made until v2 has %d %% of them: %v", want, err)
			}

			share += strings.Count(reply.GetStockVersion(), "v2")
		}
	}
}

func run(t *testing.T, script string) {
	t.Helper()

	output, err := exec.CommandContext(t.Context(), "sh", "-exc", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}

// start runs a service with the command line of its unit, until the test ends.
func start(t *testing.T, name, version string) {
	t.Helper()

	const script = `eval exec $(sed -n "s|%i|$0|g; s|%d|$DIR|; s|/usr/local/bin|$DIR|; s/^ExecStart=//p" deploy/shop@.service)`
	cmd := exec.Command("sh", "-c", script, name) //nolint:noctx // it ends by SIGTERM
	cmd.Env = append(os.Environ(), "VERSION="+version)
	cmd.Stderr = t.Output()

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
}
