// Package tls shows TLS to etcd and between services, and etcd roles with the least that is needed.
// Run it from the directory above:
//
//	go run . tls
//
// It starts an etcd that speaks TLS and asks for users, and gives it the roles and users of roles.sh
// and users.sh by etcdctl, as docs/security.md has them. Then a server and a caller work with one of these roles
// each, over TLS, and it is shown what they cannot do: the caller cannot register, plaintext is not
// spoken, and who may write the service's entries still cannot pass for its servers. It exits with
// 1 when one of these could.
package tls

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var (
	//go:embed roles.sh
	roles string
	//go:embed users.sh
	users string
)

const rootPassword = "change-me-first"

var key = greeterv1.GreeterService_EtcdServiceDesc.Key

// Example is what the command in the directory above runs.
var Example = show.Example{Name: "tls", Tell: tell, Etcd: options}

var options = []etcdtest.Option{etcdtest.WithTLS(), etcdtest.WithAuth(rootPassword)}

func tell(ctx context.Context, stage *show.Stage) error {
	if err := etcdctl(ctx, stage, roles+users); err != nil {
		return err
	}
	authority, err := newAuthority()
	if err != nil {
		return err
	}
	// The name in the certificate is the service's: its key with "/" as ".".
	server, err := greeter(ctx, stage, authority, "greeter-1", "acme.greeter")
	if err != nil {
		return err
	}
	registry, err := as(stage, "frontend", "change-me-too")
	if err != nil {
		return err
	}
	client, err := greeterv1.NewGreeterServiceClientFromEtcd(registry, grpc.WithTransportCredentials(authority.trust()))
	if err != nil {
		return err
	}
	if _, err := show.Count(ctx, 10, show.Greet(client)); err != nil {
		return err
	}
	stage.Say("10 calls over TLS, from a caller that may read %s/ to a server that may write it", key)
	for _, refused := range []func() error{
		func() error { return callerRegisters(ctx, stage, registry) },
		func() error { return plaintext(stage, registry) },
		func() error { return impostor(ctx, stage, authority, client) },
	} {
		if err := refused(); err != nil {
			return err
		}
	}
	return server.Stop()
}

// etcdctl runs a script of etcdctl commands as root.
func etcdctl(ctx context.Context, stage *show.Stage, script string) error {
	lines := bufio.NewScanner(strings.NewReader(script))
	for lines.Scan() {
		arguments := strings.Fields(lines.Text())
		if len(arguments) == 0 {
			continue
		}
		stage.Say("$ %s", lines.Text())
		cmd := exec.CommandContext(ctx, "go", append([]string{"tool"}, arguments...)...)
		cmd.Env = append(os.Environ(), "ETCDCTL_ENDPOINTS="+strings.Join(stage.Etcd.Endpoints(), ","),
			"ETCDCTL_CACERT="+stage.Etcd.CAFile(), "ETCDCTL_USER=root:"+rootPassword, "ETCDCTL_COMMAND_TIMEOUT=1m")
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", lines.Text(), err, output)
		}
	}
	return lines.Err()
}

// as returns the registry of a process that is the given user in etcd.
func as(stage *show.Stage, user, password string) (*runtime.Registry, error) {
	cfg := stage.Etcd.Config() // trusts etcd's authority
	cfg.Username, cfg.Password = user, password
	return stage.RegistryAs(cfg)
}

// greeter serves over TLS with a certificate for the given name.
func greeter(ctx context.Context, stage *show.Stage, authority *authority, instance, name string) (*show.Server, error) {
	certificate, err := authority.sign(name)
	if err != nil {
		return nil, err
	}
	registry, err := as(stage, "greeter", "change-me")
	if err != nil {
		return nil, err
	}
	return stage.GreeterOn(ctx, grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(certificate))), instance, registry)
}
