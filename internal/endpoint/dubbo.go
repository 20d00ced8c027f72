package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Dubbo is the layout of dubbo-go, which is read but not written.
var Dubbo = layout(format{
	name: "dubbo", entry: "dubbo entry", json: true, metadata: true,
	dialect: dialect{
		whose: "dubbo", address: []field{fieldHost, fieldPort}, claims: []field{fieldHost, fieldEnable}, read: document.dubbo,
	},
})

var (
	fieldHost    = named("Host")
	fieldPort    = named("Port")
	fieldEnable  = named("Enable")
	fieldHealthy = named("Healthy")
)

// dubbo reads an instance of dubbo-go's application-level service discovery.
func (d document) dubbo(string) (Endpoint, error) {
	if string(d[fieldEnable]) == "false" || string(d[fieldHealthy]) == "false" {
		return Endpoint{}, errors.New("the instance is not enabled, or not healthy")
	}
	addr, err := hostPort(d[fieldHost], d[fieldPort])
	if err != nil {
		return Endpoint{}, err
	}
	e := Endpoint{Addr: addr}
	e.take(d[fieldMetadata])
	return e, checkDubboProtocols(e.Metadata["dubbo.endpoints"], word(d[fieldPort]))
}

// dubboEndpoint is a protocol of an instance, and the port that serves this protocol.
type dubboEndpoint struct {
	Port     json.Number
	Protocol string
}

// checkDubboProtocols returns an error if dubbo-go's list of an instance's protocols, such as
// [{"port":20000,"protocol":"tri"}], has neither tri nor grpc for the port or, if the list lacks
// the port, for any port. Triple accepts gRPC calls. Without a list, the instance may speak gRPC.
func checkDubboProtocols(list, port string) error {
	var all []dubboEndpoint
	if list == "" || json.Unmarshal([]byte(list), &all) != nil || len(all) == 0 {
		return nil
	}
	if i := slices.IndexFunc(all, func(e dubboEndpoint) bool { return e.Port.String() == port }); i >= 0 {
		all = all[i : i+1]
	}
	for _, e := range all {
		if e.Protocol == "tri" || e.Protocol == "grpc" {
			return nil
		}
	}
	return fmt.Errorf("the instance's protocol is %.40q, neither tri nor grpc", all[0].Protocol)
}
