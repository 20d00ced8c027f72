package tls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// refusals makes the requests that must fail.
func refusals(ctx context.Context, stage *show.Stage, registry *runtime.Registry, client greeterv1.GreeterServiceClient) error {
	_, registerErr := registry.Register(ctx, key, runtime.Endpoint{Addr: "10.6.6.6:80"})
	_, plaintextErr := greeterv1.NewGreeterServiceClientFromEtcd(registry)
	// A call that names the impostor always connects to it. The greeter's calls would wait for it to be ready.
	_, impostorErr := client.SayHello(runtime.WithTarget(ctx, "impostor"), &greeterv1.SayHelloRequest{}, grpc.WaitForReady(false))
	return errors.Join(
		refused(stage, "the caller cannot register a server", registerErr, "permission denied"),
		refused(stage, "a client without credentials is an error", plaintextErr, "no transport security"),
		refused(stage, "an impostor in etcd fails the handshake", impostorErr, "acme.greeter"))
}

// refused fails unless err reports a refusal for this reason.
func refused(stage *show.Stage, what string, err error, reason string) error {
	if err == nil {
		return errors.New("not the case: " + what)
	}
	if !strings.Contains(err.Error(), reason) {
		return fmt.Errorf("%s, but with another error: %w", what, err)
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	stage.Say("%s: %s", what, line)
	return nil
}

// certificate makes a self-signed certificate for a server's name and adds it to trusted. Yours come from an authority.
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
