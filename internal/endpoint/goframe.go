package endpoint

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// encodeGoFrame writes the value of GoFrame's etcd registry, which is the metadata alone: the address is in
// the etcd key. GoFrame's reader panics at an address with more than one colon.
func encodeGoFrame(_ Layout, _ string, e Endpoint) ([]byte, error) {
	if _, ok := goFrameAddr(e.Addr); !ok {
		return nil, fmt.Errorf("address %q: GoFrame's own readers panic at an IPv6 address", e.Addr)
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

// goFrameAddr returns the address in the last segment of a GoFrame key, which is host:port or several of
// them with commas between. Those are addresses of one server, so the first is enough.
func goFrameAddr(instance string) (addr string, ok bool) {
	addr, _, _ = strings.Cut(instance, ",")
	return addr, strings.Count(addr, ":") == 1 && CheckAddr(addr, true) == nil
}

// goFrame reads a GoFrame entry. ok is false if the key does not end in an address, or if the object has
// another one in it, which GoFrame does not write.
func goFrame(instance string, value []byte) (e Endpoint, ok bool) {
	addr, ok := goFrameAddr(instance)
	metadata, flat := rawjson.SkipSpace(value), true
	rawjson.Members(metadata, func(_, value []byte) bool {
		flat = value[0] != '{' && value[0] != '['
		return flat
	})
	if !ok || !flat {
		return Endpoint{}, false
	}
	e.Addr = addr
	e.take(metadata)
	return e, true
}
