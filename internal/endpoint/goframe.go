package endpoint

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// encodeGoFrame writes the value of GoFrame's etcd registry, which is the metadata alone: the address is in
// the etcd key. GoFrame's reader panics at an address with more than one colon.
func encodeGoFrame(_ Layout, key string, e Endpoint) ([]byte, error) {
	if _, ok := goFrameAddr(e.Addr); !ok {
		return nil, fmt.Errorf("address %q: GoFrame's own readers panic at an IPv6 address", e.Addr)
	}
	all := e.members()
	var d document
	for name := range all {
		d.set([]byte(name), []byte("0"))
	}
	other, taken := d.layout(given)
	if !taken && d.host != nil && d.enable != nil {
		other, taken = Dubbo, true
	}
	if taken {
		return nil, fmt.Errorf("the metadata has a name that means the address in the layout %v: GoFrame's entries are metadata alone, "+
			"so readers would take this one for such an entry", other)
	}
	value, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	if _, _, err := goFrame(key, e.Addr, value); err != nil {
		return nil, fmt.Errorf("readers would not take the metadata for that of a GoFrame entry: %w", err)
	}
	return value, nil
}

// goFrameAddr returns the address in the last segment of a GoFrame key, which is host:port or several of
// them with commas between. Those are addresses of one server, so the first is enough.
func goFrameAddr(instance string) (addr string, ok bool) {
	addr, _, _ = strings.Cut(instance, ",")
	return addr, strings.Count(addr, ":") == 1 && CheckAddr(addr, true) == nil
}

// isGoFrameKey reports whether a service key looks like those of GoFrame's servers, which nothing else is under:
// /service/<deployment>/<namespace>/<name>/<version>.
func isGoFrameKey(key string) bool { return key[0] == '/' && strings.Count(key, "/") == 5 }

// goFrame reads a GoFrame entry. ok is false if the key does not end in an address. Other JSON may be under
// a key that does: what cannot be GoFrame's, or has an address of its own, is an error if the service key is not
// like GoFrame's.
func goFrame(key, instance string, value []byte) (e Endpoint, ok bool, err error) {
	addr, ok := goFrameAddr(instance)
	if !ok {
		return Endpoint{}, false, nil
	}
	if !isGoFrameKey(key) {
		if err := checkGoFrame(instance, value); err != nil {
			return Endpoint{}, true, err
		}
	}
	e.Addr = addr
	e.take(rawjson.SkipSpace(value))
	return e, true, nil
}

// checkGoFrame returns an error if an object nests, or has another address than the key.
func checkGoFrame(instance string, value []byte) (err error) {
	var host, port string
	rawjson.Members(value, func(rawName, raw []byte) bool {
		name, value := strings.ToLower(string(rawName)), word(raw)
		switch {
		case raw[0] == '{' || raw[0] == '[':
			err = fmt.Errorf("JSON that names no address, and whose field %.80q nests: metadata alone (GoFrame) is to be flat, "+
				"save under a key such as /service/default/default/user/latest", rawName)
		case name == "host" || name == "ip":
			host = value
		case name == "port":
			port = value
		case namesAddr(name):
			err = checkGoFrameAddr(instance, value)
		}
		return err == nil
	})
	if err == nil && host != "" && port != "" {
		err = checkGoFrameAddr(instance, net.JoinHostPort(host, port))
	}
	return err
}

// namesAddr reports whether home-made JSON may have an address under this name, which is in lower case.
func namesAddr(name string) bool {
	return slices.ContainsFunc([]string{"addr", "endpoint", "grpc", "rpc", "host", "listen", "target"}, func(part string) bool {
		return strings.Contains(name, part)
	})
}

// checkGoFrameAddr returns an error if a piece of metadata is an address that is not in the key.
func checkGoFrameAddr(instance, addr string) error {
	if CheckAddr(addr, true) != nil || slices.Contains(strings.Split(instance, ","), addr) {
		return nil
	}
	return fmt.Errorf("JSON whose address may be %q, while its key ends in %.80q: name its fields in a json_layout", addr, instance)
}
