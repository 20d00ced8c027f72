package targets

import (
	"bytes"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// TestCatalog keeps little of a value that is too long, and has a list where there are no targets. TestSD follows etcd.
func TestCatalog(t *testing.T) {
	c := newCatalog(Port{})
	c.replace(nil)
	if text, known, err := c.json(); string(text) != "[]" || !known || err != nil {
		t.Errorf("no targets are %s, %t, %v", text, known, err)
	}
	long := &mvccpb.KeyValue{Key: []byte("acme/user/c"), Value: bytes.Repeat([]byte("x"), 2*endpoint.MaxValue)}
	c.apply([]*clientv3.Event{{Type: mvccpb.PUT, Kv: long}})
	if got := len(c.entries["acme/user/c"].Value); got > endpoint.MaxValue+1 {
		t.Errorf("%d bytes are kept of a value that is too long", got)
	}
}
