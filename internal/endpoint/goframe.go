package endpoint

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// encodeGoFrame writes the value of GoFrame's etcd registry, the metadata alone: the address is what the
// key ends in. Its reader ends the process at an address with more than one colon.
func encodeGoFrame(_ Layout, _ string, e Endpoint) ([]byte, error) {
	if !isGoFrame(e.Addr) {
		return nil, fmt.Errorf("address %q: GoFrame's own readers know no IPv6 address, and panic", e.Addr)
	}
	all := e.members()
	var d document
	for name := range all {
		d.set([]byte(name), []byte("0"))
	}
	if other, taken := d.layout(); taken {
		return nil, fmt.Errorf("the metadata has a name that means the address in the layout %v: GoFrame's entries are metadata alone, "+
			"so readers would take this one for such an entry", other)
	}
	return json.Marshal(all)
}

// isGoFrame reports whether a key ends as those of GoFrame do, in host:port or several of them.
func isGoFrame(instance string) bool {
	first, _, _ := strings.Cut(instance, ",")
	return strings.Count(first, ":") == 1 && CheckAddr(first, true) == nil
}

// goFrame reads an entry of GoFrame's. Of several addresses, which are those of one server, it takes the
// first. ok is false for an object within the object: that is somebody else's JSON.
func goFrame(instance string, value []byte) (e Endpoint, ok bool) {
	addr, _, _ := strings.Cut(instance, ",")
	metadata, flat := rawjson.SkipSpace(value), true
	rawjson.Members(metadata, func(_, value []byte) bool {
		flat = value[0] != '{' && value[0] != '['
		return flat
	})
	if !flat || !isGoFrame(instance) {
		return Endpoint{}, false
	}
	e.Addr = addr
	e.take(metadata)
	return e, true
}
