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
	"go.etcd.io/etcd/server/v3/lease"
)

// This file holds all code that accesses unexported variables of etcd. The source of etcd is not changed:
//
//   - EtcdServer.r.transport and EtcdServer.peerRt. NewServer fills them with real connections to the other members. A goroutine
//     that waits for a socket stops virtual time.
//   - EtcdServer.lessor. EtcdServer.LeaseLeases fails after the server has stopped.
//   - valCtxCh of etcd's client. It is made at package initialization, outside of any bubble. A goroutine that waits for a
//     channel from outside the bubble also stops virtual time.

// knownVersion is the version of etcd that has these variables. Check each of them before you raise it.
const knownVersion = "3.7.3"

//go:linkname valCtxCh go.etcd.io/etcd/client/v3.valCtxCh
var valCtxCh chan struct{}

// Bubble runs f in a synctest bubble in which etcd's client and Cluster work. There must be one bubble at a time.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if err := checkVersion(version.Version); err != nil {
		t.Fatal(err)
	}
	outside := valCtxCh
	defer func() { valCtxCh = outside }() // watches outside must not use a channel of the bubble
	synctest.Test(t, func(t *testing.T) {
		valCtxCh = make(chan struct{})
		f(t)
	})
}

// checkVersion returns an error unless have is the version whose fields this file knows.
func checkVersion(have string) error {
	if have != knownVersion {
		return fmt.Errorf("etcd: version is %s, but unsafe.go knows the fields of %s only: check them and raise knownVersion", have, knownVersion)
	}
	return nil
}

// setTransport replaces the transport that connects a server with its peers. It must be called between NewServer and Start.
func setTransport(s *etcdserver.EtcdServer, t *transport) error {
	messages, err := field[rafthttp.Transporter](s, "r", "transport")
	if err != nil {
		return err
	}
	requests, err := field[http.RoundTripper](s, "peerRt")
	if err != nil {
		return err
	}
	(*messages).Stop()
	*messages, *requests = t, t
	return nil
}

// lessorOf returns the lessor of a server, which holds its leases.
func lessorOf(s *etcdserver.EtcdServer) lease.Lessor {
	lessor, err := field[lease.Lessor](s, "lessor")
	if err != nil {
		panic(err) // setTransport has checked the version
	}
	return *lessor
}

// field returns a pointer to an unexported field of s. Several names lead through nested structs.
func field[T any](s *etcdserver.EtcdServer, names ...string) (*T, error) {
	v := reflect.ValueOf(s).Elem()
	for _, name := range names {
		if v.Kind() == reflect.Struct {
			v = v.FieldByName(name)
		}
		if !v.IsValid() {
			return nil, fmt.Errorf("etcd: EtcdServer lacks %s in path %v", name, names)
		}
	}
	if want := reflect.TypeFor[T](); v.Type() != want {
		return nil, fmt.Errorf("etcd: field %v of EtcdServer is of type %v, not %v", names, v.Type(), want)
	}
	return (*T)(unsafe.Pointer(v.UnsafeAddr())), nil
}
