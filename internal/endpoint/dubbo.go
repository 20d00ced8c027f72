package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Dubbo is the layout of dubbo-go, which is read but not written.
var Dubbo = layout(format{
	name:  "dubbo",
	entry: "dubbo entry",
	json:  true,
	dialect: dialect{
		where:   "Host and Port (dubbo)",
		address: []field{fieldHost, fieldPort},
		claims:  []field{fieldHost, fieldEnable},
		read:    document.dubbo,
	},
})

var (
	fieldHost    = named("Host")
	fieldPort    = named("Port")
	fieldEnable  = named("Enable")
	fieldHealthy = named("Healthy")
)

// ErrDisabled is the error of an entry whose server wants no calls.
var ErrDisabled = errors.New("the instance is not enabled")

// dubbo reads an instance of dubbo-go's application-level service discovery.
func (d document) dubbo(string) (Endpoint, error) {
	switch {
	case string(d[fieldEnable]) == "false":
		return Endpoint{}, ErrDisabled
	case string(d[fieldHealthy]) == "false":
		return Endpoint{}, errors.New("the instance is not healthy")
	}

	var e Endpoint
	e.take(d[fieldMetadata])

	port, err := dubboPort(e.Metadata["dubbo.endpoints"], d[fieldPort])
	if err == nil {
		e.Addr, err = hostPort(d[fieldHost], port)
	}

	return e, err
}

// dubboPort returns the port for gRPC calls. list has the ports and protocols
// of an instance, such as [{"port":20000,"protocol":"tri"}]. The protocols gRPC
// and Triple, which is "tri", accept gRPC calls. Without a list, dubboPort
// returns the instance's port, although its protocol is unknown.
func dubboPort(list string, port json.RawMessage) (json.RawMessage, error) {
	var all []struct {
		Port     json.RawMessage
		Protocol string
	}

	if list == "" || json.Unmarshal([]byte(list), &all) != nil || len(all) == 0 {
		return port, nil
	}

	for _, e := range all {
		if e.Protocol == "tri" || e.Protocol == "grpc" {
			return e.Port, nil
		}
	}

	return nil, fmt.Errorf("the instance's protocol is %.40q, neither tri nor grpc",
		all[0].Protocol)
}
