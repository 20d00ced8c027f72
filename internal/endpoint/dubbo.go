package endpoint

import "errors"

// dubbo reads an instance of dubbo-go's application-level service discovery.
func (d *document) dubbo() (Endpoint, error) {
	if string(d.enable) == "false" || string(d.healthy) == "false" {
		return Endpoint{}, errors.New("the instance is not enabled, or not healthy")
	}
	addr, err := hostPort(d.host, d.port)
	if err != nil {
		return Endpoint{}, err
	}
	e := Endpoint{Addr: addr}
	e.take(d.metadata)
	return e, nil
}
