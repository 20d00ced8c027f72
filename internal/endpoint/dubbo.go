package endpoint

import (
	"errors"
	"fmt"
	"net"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// dubbo reads an instance of dubbo-go's service discovery by application.
func (d *document) dubbo() (Endpoint, error) {
	if string(d.enable) == "false" || string(d.healthy) == "false" {
		return Endpoint{}, errors.New("the instance is not enabled, or not healthy")
	}
	if d.host[0] != '"' {
		return Endpoint{}, fmt.Errorf("the host is %s, not a string", printable.Short(string(d.host), 20))
	}
	addr := net.JoinHostPort(word(d.host), word(d.port))
	if err := CheckAddr(addr, true); err != nil {
		return Endpoint{}, err
	}
	e := Endpoint{Addr: addr}
	e.take(d.metadata)
	return e, nil
}
