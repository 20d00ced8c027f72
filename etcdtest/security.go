package etcdtest

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// User is an etcd user, for [WithAuth]. Its permissions are in a role of the same name. A test can change that role by
// [Cluster.Admin].
type User struct {
	Name, Password string
	Permissions    []Permission
}

// Permission is the access of a user to the keys that begin with Prefix; "" means all keys. Without Read and Write it has no effect.
type Permission struct {
	Prefix      string
	Read, Write bool
}

// ReadOnly is the permission to list and watch the keys that begin with prefix.
func ReadOnly(prefix string) Permission { return Permission{Prefix: prefix, Read: true} }

// ReadWrite is the permission to do anything with the keys that begin with prefix.
func ReadWrite(prefix string) Permission { return Permission{Prefix: prefix, Read: true, Write: true} }

// As returns a function, for [Cluster.Client], that makes the client log in as a user.
func As(name, password string) func(*clientv3.Config) {
	return func(cfg *clientv3.Config) { cfg.Username, cfg.Password = name, password }
}

const root = "root" // etcd requires this name for the user and the role with all permissions

type auth struct {
	rootPassword string
	users        []User
}

// enable creates the users and enables authentication, by a client that does not log in.
func (a *auth) enable(cfg clientv3.Config) error {
	cfg.Username, cfg.Password = "", ""
	client, err := clientv3.New(cfg)
	if err != nil {
		return fmt.Errorf("etcdtest: connect without a user: %w", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for _, user := range append([]User{{Name: root, Password: a.rootPassword}}, a.users...) {
		if err := user.create(ctx, client); err != nil {
			return fmt.Errorf("etcdtest: create the user %q: %w", user.Name, err)
		}
	}
	if _, err := client.AuthEnable(ctx); err != nil {
		return fmt.Errorf("etcdtest: enable authentication: %w", err)
	}
	return nil
}

func (u User) create(ctx context.Context, client *clientv3.Client) error {
	if _, err := client.RoleAdd(ctx, u.Name); err != nil {
		return err
	}
	for _, p := range u.Permissions {
		if !p.Read && !p.Write {
			continue
		}
		first := cmp.Or(p.Prefix, "\x00") // etcd rejects a range without a first key
		if _, err := client.RoleGrantPermission(ctx, u.Name, first, clientv3.GetPrefixRangeEnd(p.Prefix), p.kind()); err != nil {
			return err
		}
	}
	if _, err := client.UserAdd(ctx, u.Name, u.Password); err != nil {
		return err
	}
	_, err := client.UserGrantRole(ctx, u.Name, u.Name)
	return err
}

func (p Permission) kind() clientv3.PermissionType {
	switch {
	case p.Read && p.Write:
		return clientv3.PermissionType(clientv3.PermReadWrite)
	case p.Write:
		return clientv3.PermissionType(clientv3.PermWrite)
	default:
		return clientv3.PermissionType(clientv3.PermRead)
	}
}

// certificates has the files of a certificate authority for one cluster, and of a server certificate.
type certificates struct {
	caFile, certFile, keyFile string
	pool                      *x509.CertPool
}

// newCertificates creates in dir an authority, and a certificate for localhost and the loopback addresses.
func newCertificates(dir string) (*certificates, error) {
	c := &certificates{
		caFile:   filepath.Join(dir, "ca.pem"),
		certFile: filepath.Join(dir, "server.pem"),
		keyFile:  filepath.Join(dir, "server-key.pem"),
		pool:     x509.NewCertPool(),
	}
	if err := c.create(); err != nil {
		return nil, fmt.Errorf("etcdtest: make certificates in %s: %w", dir, err)
	}
	return c, nil
}

func (c *certificates) create() error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := template("etcdtest authority")
	ca.IsCA, ca.BasicConstraintsValid = true, true
	ca.KeyUsage = x509.KeyUsageCertSign
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	if ca, err = x509.ParseCertificate(caDER); err != nil {
		return err
	}
	c.pool.AddCert(ca)

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	server := template("etcdtest member")
	server.KeyUsage = x509.KeyUsageDigitalSignature
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	server.DNSNames = []string{"localhost"}
	server.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	serverDER, err := x509.CreateCertificate(rand.Reader, server, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(map[string]*pem.Block{
		c.caFile:   {Type: "CERTIFICATE", Bytes: caDER},
		c.certFile: {Type: "CERTIFICATE", Bytes: serverDER},
		c.keyFile:  {Type: "EC PRIVATE KEY", Bytes: keyDER},
	})
}

// clientConfig returns a configuration that trusts only the authority.
func (c *certificates) clientConfig() *tls.Config {
	return &tls.Config{RootCAs: c.pool, MinVersion: tls.VersionTLS12}
}

func template(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
	}
}

func writePEM(blocks map[string]*pem.Block) error {
	for file, block := range blocks {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}
