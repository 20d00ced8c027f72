package discovery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/porttest"
)

// TestK9_RefusedLiveConfig has a user who may read endpoints, and no live configs.
func TestK9_RefusedLiveConfig(t *testing.T) {
	kit.Night(t)
	leak.Beside(t)
	const config = "_grpc_config/" + key
	w := newWorld(t, []etcdtest.Option{etcdtest.WithAuth("secret", etcdtest.User{
		Name: "caller", Password: "p", Permissions: []etcdtest.Permission{{Prefix: key + "/", Read: true}},
	})})
	w.registry = w.newRegistry(w.etcd.Client(t, etcdtest.As("caller", "p")))
	w.register(w.serve("a"))
	reached(t, w.conn(), soon, "a")
	<-time.After(5 * time.Second) // for the pauses to grow
	w.etcd.Calls().Reset()
	const observed = 6 * time.Second
	<-time.After(observed) // how much is done in a given time is what is tested
	lists := w.etcd.Calls().Count(etcdtest.Range, config)
	report.Count(t, "K9", "lists of a refused live config within 6 s", lists)
	if lists > 2 {
		t.Errorf("a refused live config was listed %d times in %v", lists, observed)
	}

	admin := w.etcd.Admin()
	_, err1 := admin.RoleAdd(kit.Bounded(t, soon), "configs")
	_, err2 := admin.RoleGrantPermission(kit.Bounded(t, soon), "configs", config, "", clientv3.PermissionType(clientv3.PermRead))
	_, err3 := admin.UserGrantRole(kit.Bounded(t, soon), "caller", "configs")
	must(t, errors.Join(err1, err2, err3))
	w.etcd.Cut()
	kit.Eventually(t, soon, "the loss of the connection is seen", func() bool { return w.logs.Count("interrupted") > 0 })
	w.etcd.Restore()
	took := kit.Eventually(t, 6*time.Second, "the live config is watched", func() bool {
		return w.etcd.Calls().Count(etcdtest.Watch, config) > 0
	})
	report.Took(t, "K9", "watched after the right was granted and the connection was back", took)
}

// TestK11_CauseOfAnOutage has the errors of Watch, and the log, say why etcd cannot be reached.
func TestK11_CauseOfAnOutage(t *testing.T) {
	leak.Beside(t)
	refuses := porttest.Refusing(t)
	for _, tt := range []struct {
		name    string
		cluster []etcdtest.Option
		client  func(*clientv3.Config)
		want    string
	}{
		{"refused", nil, func(c *clientv3.Config) { c.Endpoints = []string{refuses} }, "connect: connection refused"},
		{"a TLS server in plaintext", []etcdtest.Option{etcdtest.WithTLS()}, func(c *clientv3.Config) {
			c.Endpoints = []string{strings.TrimPrefix(c.Endpoints[0], "https://")}
			c.TLS = nil
		}, "error reading server preface"},
		{"another CA", []etcdtest.Option{etcdtest.WithTLS()}, func(c *clientv3.Config) {
			c.TLS = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		}, "certificate signed by unknown authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leak.Beside(t)
			w := newWorld(t, tt.cluster)
			w.registry = w.newRegistry(w.etcd.Client(t, tt.client))
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()
			var known []string // errors, from the first on that has the cause
			began := time.Now()
			for _, err := range w.registry.Watch(ctx, key) {
				if err == nil {
					t.Fatal("etcd was reached")
				}
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v does not wrap the context's error", err)
				}
				switch text := err.Error(); {
				case len(known) > 0 || strings.Contains(text, tt.want):
					if len(known) == 0 {
						report.Took(t, "K11", "the cause is named after", time.Since(began))
					}
					known = append(known, text)
					time.AfterFunc(4*time.Second, cancel) // after some more tries
				default:
					t.Logf("not the cause yet: %v", err)
				}
			}
			if len(known) != 1 {
				t.Fatalf("%d errors since the cause is known, want one: each try says the same\n%s", len(known), strings.Join(known, "\n"))
			}
			for _, want := range []string{"etcd: list ", key, "connection error: ", tt.want} {
				if !strings.Contains(known[0], want) {
					t.Errorf("the error is %q, want one with %q", known[0], want)
				}
				if w.logs.Count(want) == 0 {
					t.Errorf("%q is not logged", want)
				}
			}
		})
	}
}
