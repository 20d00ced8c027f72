package discovery

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
)

// The keys of the services in docs/security.md.
const (
	guardedKey    = "acme/greeter"
	guardedConfig = "_grpc_config/" + guardedKey
	legacy        = "acme/legacy" // in the layout LEASE_SUFFIX
)

// guarded is a world whose etcd has authentication on, and the roles and users
// of docs/security.md.
type guarded struct{ *world }

// newGuarded starts an etcd and makes its roles and users. It makes the test
// parallel.
func newGuarded(t *testing.T) guarded {
	t.Helper()

	leak.Parallel(t)
	w := guarded{newWorld(t, []etcdtest.Option{etcdtest.WithAuth("root")})}
	page, err := os.ReadFile("../../docs/security.md")
	kit.Must(t, err)

	for _, line := range regexp.MustCompile(
		`(?m)^etcdctl ((?:role|user) .+)$`).FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(line[1], " root") { // etcdtest has made the user root
			w.etcdctl(line[1])
		}
	}

	return w
}

var kinds = map[string]clientv3.PermissionType{
	"read":      clientv3.PermissionType(clientv3.PermRead),
	"readwrite": clientv3.PermissionType(clientv3.PermReadWrite),
}

// etcdctl runs a command about roles or users as etcdctl would. It knows four
// commands.
func (w guarded) etcdctl(command string) {
	w.t.Helper()

	ctx := kit.Context(w.t)
	admin := w.etcd.Admin()
	prefix := strings.Contains(command, "--prefix=true")
	args := slices.DeleteFunc(strings.Fields(command), func(arg string) bool {
		return strings.HasPrefix(arg, "--")
	})
	var err error

	switch what := args[0] + " " + args[1]; {
	case what == "role add":
		_, err = admin.RoleAdd(ctx, args[2])
	case what == "role grant-permission":
		end := ""
		if prefix {
			end = clientv3.GetPrefixRangeEnd(args[4])
		} else if len(args) == 6 {
			end = args[5]
		}

		_, err = admin.RoleGrantPermission(ctx, args[2], args[4], end, kinds[args[3]])

	case what == "user add":
		_, err = admin.UserAdd(ctx, args[2], "secret")
	case what == "user grant-role":
		_, err = admin.UserGrantRole(ctx, args[2], args[3])
	default:
		err = fmt.Errorf("this test does not know etcdctl %s", command)
	}

	kit.Must(w.t, err)
}

// as returns an etcd client of a user that has exactly these roles.
func (w guarded) as(roles ...string) *clientv3.Client {
	w.t.Helper()

	ctx := kit.Context(w.t)
	admin := w.etcd.Admin()

	name := cmp.Or(strings.Join(roles, "+"), "without-a-role")
	if _, err := admin.UserGet(ctx, name); err != nil {
		_, err := admin.UserAdd(ctx, name, "secret")
		kit.Must(w.t, err)

		for _, role := range roles {
			_, err := admin.UserGrantRole(ctx, name, role)
			kit.Must(w.t, err)
		}
	}

	return w.etcd.Client(w.t, etcdtest.As(name, "secret"))
}

// enter puts an entry of the greeter, as a user with the servers' role.
func (w guarded) enter(name, value string) {
	w.t.Helper()
	_, err := w.as("greeter-server").Put(kit.Context(w.t), guardedKey+"/"+name, value)
	kit.Must(w.t, err)
}

// attempt is a request of a user to etcd, and its name in messages.
type attempt struct {
	what string
	do   func(context.Context) error
}

// allowed fails the test for each attempt that etcd rejects.
func (w guarded) allowed(all ...attempt) {
	w.t.Helper()

	for _, a := range all {
		if err := a.do(kit.Context(w.t)); err != nil {
			w.t.Errorf("%s: %v, want success", a.what, err)
		}
	}
}

// denied fails the test for each attempt whose error is not "permission
// denied".
func (w guarded) denied(all ...attempt) {
	w.t.Helper()

	for _, a := range all {
		err := a.do(kit.Context(w.t))
		if err == nil || !strings.Contains(err.Error(), "permission denied") {
			w.t.Errorf("%s: %v, want permission denied", a.what, err)
		}
	}
}

func getting(c *clientv3.Client, etcdKey string, opts ...clientv3.OpOption) attempt {
	return attempt{"get " + etcdKey, func(ctx context.Context) error {
		_, err := c.Get(ctx, etcdKey, opts...)
		return err
	}}
}

func listing(c *clientv3.Client, from, end string) attempt {
	a := getting(c, from, clientv3.WithRange(end))
	a.what = "list " + from + " to " + end

	return a
}

func watching(c *clientv3.Client, etcdKey string, opts ...clientv3.OpOption) attempt {
	return attempt{"watch " + etcdKey, func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()

		for answer := range c.Watch(ctx, etcdKey, append(opts, clientv3.WithCreatedNotify())...) {
			return answer.Err()
		}

		return ctx.Err()
	}}
}

func putting(c *clientv3.Client, etcdKey string, opts ...clientv3.OpOption) attempt {
	return attempt{"put " + etcdKey, func(ctx context.Context) error {
		_, err := c.Put(ctx, etcdKey, "10.6.6.6:80", opts...)
		return err
	}}
}

func deleting(c *clientv3.Client, etcdKey string) attempt {
	return attempt{"delete " + etcdKey, func(ctx context.Context) error {
		_, err := c.Delete(ctx, etcdKey)
		return err
	}}
}

// touching returns attempts to get, watch, put, delete and compare each key.
func touching(c *clientv3.Client, etcdKeys ...string) (all []attempt) {
	for _, k := range etcdKeys {
		all = append(all, getting(c, k), watching(c, k), putting(
			c, k), deleting(c, k), attempt{"compare " + k, func(ctx context.Context) error {
			_, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Version(k), "=", 0)).Commit()
			return err
		}})
	}

	return all
}

func hanging(c *clientv3.Client, etcdKey string, lease clientv3.LeaseID) attempt {
	a := putting(c, etcdKey, clientv3.WithLease(lease))
	a.what = fmt.Sprintf("hang %s on a lease", etcdKey)

	return a
}

// ending returns attempts to renew and to revoke a lease.
func ending(c *clientv3.Client, lease clientv3.LeaseID) []attempt {
	return []attempt{
		{"renew a lease", func(ctx context.Context) error {
			_, err := c.KeepAliveOnce(ctx, lease)
			return err
		}},
		{"revoke a lease", func(ctx context.Context) error {
			_, err := c.Revoke(ctx, lease)
			return err
		}},
	}
}

func asking(c *clientv3.Client, lease clientv3.LeaseID, opts ...clientv3.LeaseOption) attempt {
	return attempt{"ask for the time left on a lease", func(ctx context.Context) error {
		left, err := c.TimeToLive(ctx, lease, opts...)
		if err == nil && left.TTL <= 0 {
			err = fmt.Errorf("the lease has %d s left, want more than 0", left.TTL)
		}

		return err
	}}
}
