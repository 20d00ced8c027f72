package etcdtest

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// User is an etcd user, for [WithAuth]. Its permissions are in a role of the
// same name. A test can change that role by [Cluster.Admin].
type User struct {
	Name, Password string
	Permissions    []Permission
}

// Permission is the access of a user to the keys that begin with Prefix; ""
// means all keys. Without Read and Write it has no effect.
type Permission struct {
	Prefix      string
	Read, Write bool
}

// ReadOnly is the permission to list and watch the keys that begin with prefix.
func ReadOnly(prefix string) Permission {
	return Permission{Prefix: prefix, Read: true}
}

// ReadWrite is the permission to do anything with the keys that begin with
// prefix.
func ReadWrite(prefix string) Permission {
	return Permission{Prefix: prefix, Read: true, Write: true}
}

// As returns a function, for [Cluster.Client], that makes the client log in as
// a user.
func As(name, password string) func(*clientv3.Config) {
	return func(cfg *clientv3.Config) {
		cfg.Username = name
		cfg.Password = password
	}
}

// root is the name that etcd requires for the user and the role with all
// permissions.
const root = "root"

type auth struct {
	rootPassword string
	users        []User
}

// enable creates the users and enables authentication, by a client that does
// not log in.
func (a *auth) enable(cfg clientv3.Config) error {
	cfg.Username = ""
	cfg.Password = ""

	client, err := clientv3.New(cfg)
	if err != nil {
		return fmt.Errorf("etcdtest: connect without a user: %w", err)
	}
	defer client.Close()

	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()

	users := append([]User{{Name: root, Password: a.rootPassword}}, a.users...)
	for _, user := range users {
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
		_, err := client.RoleGrantPermission(ctx, u.Name, first,
			clientv3.GetPrefixRangeEnd(p.Prefix), p.kind())
		if err != nil {
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

// createCertificate creates a self-signed certificate for localhost and the
// loopback addresses.
func (c *Cluster) createCertificate() error {
	hosts := []string{"localhost:", "127.0.0.1:", "[::1]:"}
	certificate, err := transport.SelfCert(zap.NewNop(), c.dir, hosts, 1,
		x509.ExtKeyUsageClientAuth)
	c.certificate = certificate

	if err == nil {
		client := transport.TLSInfo{TrustedCAFile: certificate.CertFile}
		c.trust, err = client.ClientConfig()
	}

	if err != nil {
		return fmt.Errorf("etcdtest: make a certificate in %s: %w", c.dir, err)
	}

	return nil
}
