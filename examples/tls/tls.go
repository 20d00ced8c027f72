// Package tls shows TLS to etcd and between services, and etcd roles with minimal permissions. Run it
// from the directory above:
//
//	go run . tls
//
// Its etcd uses TLS and has the roles and users of roles.sh and users.sh, as in docs/security.md. A
// server and a caller each use one of these roles over TLS. The example shows their limits: the
// caller cannot register, plaintext is refused, and a writer of the service's entries cannot
// impersonate its servers. The command exits with 1 if one of these attempts succeeds.
package tls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

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

// Example is the entry point for the command in the directory above.
var Example = show.Example{Name: "tls", Tell: tell, Etcd: []etcdtest.Option{etcdtest.WithTLS(), etcdtest.WithAuth(rootPassword)}}

func tell(ctx context.Context, stage *show.Stage) error {
	if err := etcdctl(ctx, stage, roles+users); err != nil {
		return err
	}
	trusted := x509.NewCertPool()
	// The name in the certificate is the service's name: its key with "/" as ".".
	if err := greeter(ctx, stage, trusted, "greeter-1", "acme.greeter"); err != nil {
		return err
	}
	if err := greeter(ctx, stage, trusted, "impostor", "acme.other"); err != nil {
		return err
	}
	registry, err := as(stage, "frontend", "change-me-too")
	if err != nil {
		return err
	}
	client, err := greeterv1.NewGreeterServiceClientFromEtcd(registry, grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(trusted, "")))
	if err != nil {
		return err
	}
	shares, err := show.Count(ctx, 100, show.Greet(client))
	if err != nil {
		return err
	}
	if !shares.Only("greeter-1") {
		return fmt.Errorf("calls reached %v, want greeter-1 alone", shares)
	}
	stage.Say("100 calls over TLS, from a caller that may read %s/ to a server that may write it: none reaches an impostor", key)
	return refusals(ctx, stage, registry, client)
}

// etcdctl runs a script of etcdctl commands as root.
func etcdctl(ctx context.Context, stage *show.Stage, script string) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", stage.Dir, "go.etcd.io/etcd/etcdctl/v3")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build etcdctl: %w\n%s", err, output)
	}
	cmd := exec.CommandContext(ctx, "sh", "-ex", "-c", script)
	cmd.Env = append(os.Environ(), "PATH="+stage.Dir+string(filepath.ListSeparator)+os.Getenv("PATH"),
		"ETCDCTL_ENDPOINTS="+strings.Join(stage.Etcd.Endpoints(), ","), "ETCDCTL_CACERT="+stage.Etcd.CAFile(),
		"ETCDCTL_USER=root:"+rootPassword, "ETCDCTL_COMMAND_TIMEOUT=1m")
	output, err := cmd.CombinedOutput()
	stage.Say("%s", output)
	return err
}

// as returns the registry of a process that authenticates to etcd as user.
func as(stage *show.Stage, user, password string) (*runtime.Registry, error) {
	cfg := stage.Etcd.Config() // trusts etcd's authority
	cfg.Username, cfg.Password = user, password
	return stage.RegistryAs(cfg)
}

// greeter serves over TLS with a certificate for the given name.
func greeter(ctx context.Context, stage *show.Stage, trusted *x509.CertPool, instance, name string) error {
	certificate, err := certificate(name, trusted)
	if err != nil {
		return err
	}
	registry, err := as(stage, "greeter", "change-me")
	if err != nil {
		return err
	}
	_, err = stage.Greeter(ctx, grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(certificate))), instance, registry)
	return err
}

// refusals makes the requests that must fail.
func refusals(ctx context.Context, stage *show.Stage, registry *runtime.Registry, client greeterv1.GreeterServiceClient) error {
	_, registerErr := registry.Register(ctx, key, runtime.Endpoint{Addr: "10.6.6.6:80"})
	_, plaintextErr := greeterv1.NewGreeterServiceClientFromEtcd(registry)
	// A call that names the impostor always connects to it. By default the greeter's calls wait for a ready server; this one must not.
	_, impostorErr := client.SayHello(runtime.WithTarget(ctx, "impostor"), &greeterv1.SayHelloRequest{}, grpc.WaitForReady(false))
	return errors.Join(
		refused(stage, "the caller cannot register a server", registerErr, "permission denied"),
		refused(stage, "a client without credentials is an error", plaintextErr, "no transport security"),
		refused(stage, "an impostor in etcd fails the handshake", impostorErr, "acme.greeter"))
}

// refused fails unless err contains the reason. It prints the first line of err.
func refused(stage *show.Stage, what string, err error, reason string) error {
	if err == nil {
		return errors.New("got no error, want that " + what)
	}
	if !strings.Contains(err.Error(), reason) {
		return fmt.Errorf("%s, but with another error: %w", what, err)
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	stage.Say("%s: %s", what, line)
	return nil
}

// certificate makes a self-signed certificate for a server's name and adds it to trusted. In production an authority signs it.
func certificate(name string, trusted *x509.CertPool) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	trusted.AddCert(parsed)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
