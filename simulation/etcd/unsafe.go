package etcd

import (
	"fmt"
	"net/http"
	"reflect"
	"testing"
	"testing/synctest"
	"unsafe"

	"go.etcd.io/etcd/api/v3/version"
	_ "go.etcd.io/etcd/client/v3" // for go:linkname of valCtxCh
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
)

// This file holds all code that accesses unexported variables of etcd. The
// source of etcd is not changed:
//
//   - EtcdServer.r.transport and EtcdServer.peerRt. NewServer fills them with
//     real connections to the other members. A goroutine that waits for a
//     socket stops virtual time.
//   - EtcdServer.lessor. EtcdServer.LeaseLeases fails after the server has
//     stopped.
//   - valCtxCh of etcd's client. It is made at package initialization, outside
//     of any bubble. A goroutine that waits for a channel from outside the
//     bubble also stops virtual time.

// knownVersion is the version of etcd that has these variables. Check each of
// them before you raise it.
const knownVersion = "3.7.3"

//go:linkname valCtxCh go.etcd.io/etcd/client/v3.valCtxCh
var valCtxCh chan struct{}

// Bubble runs f in a synctest bubble in which etcd's client and Cluster work.
// There must be one bubble at a time.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()

	if err := checkVersion(version.Version); err != nil {
		t.Fatal(err)
	}

	outside := valCtxCh

	// watches outside must not use a channel of the bubble
	defer func() { valCtxCh = outside }()

	synctest.Test(t, func(t *testing.T) {
		valCtxCh = make(chan struct{})
		f(t)
	})
}

// checkVersion returns an error unless have is the version whose fields this
// file knows.
func checkVersion(have string) error {
	if have != knownVersion {
		return fmt.Errorf("etcd: version is %s, but unsafe.go knows the fields of %s only: check them and raise knownVersion",
			have, knownVersion)
	}

	return nil
}

// setTransport replaces the transport that connects a server with its peers. It
// must be called between NewServer and Start.
func setTransport(s *etcdserver.EtcdServer, t *transport) {
	messages := field[rafthttp.Transporter](s, "r", "transport")
	(*messages).Stop()
	*messages = t
	*field[http.RoundTripper](s, "peerRt") = t
}

// field returns a pointer to an unexported field of s, and panics if there is
// none, or if its type is not T. Several names lead through nested structs.
func field[T any](s *etcdserver.EtcdServer, names ...string) *T {
	v := reflect.ValueOf(s).Elem()
	for _, name := range names {
		v = v.FieldByName(name)
		if !v.IsValid() {
			panic(fmt.Sprintf("etcd: EtcdServer has no field %v", names))
		}
	}

	return reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Interface().(*T)
}
