package endpoint

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Kratos is the layout of kratos.
var Kratos = layout(format{
	name:     "kratos",
	constant: "Kratos",
	entry:    "kratos entry",
	ends:     atInstance,
	encode:   encodeKratos,
	json:     true,
	dialect: dialect{
		where:   "endpoints (kratos)",
		address: []field{fieldEndpoints},
		array:   true,
		read:    document.kratos,
	},
	onBare: "kratos' own reader gives up on the whole list because of an entry that is not JSON",
})

var fieldEndpoints = named("endpoints")

// encodeKratos writes a kratos ServiceInstance. Kratos' reader skips an entry
// with the name of another service. It looks for a grpc or for a grpcs
// endpoint, depending on the caller's dial options, so the value has both.
func encodeKratos(_ Layout, key string, e Endpoint) ([]byte, error) {
	other := e
	other.Version = ""

	return json.Marshal(struct {
		ID        string            `json:"id"`
		Name      string            `json:"name"`
		Version   string            `json:"version"`
		Metadata  map[string]string `json:"metadata"`
		Endpoints []string          `json:"endpoints"`
	}{
		ID:        e.Instance,
		Name:      lastSegment(key),
		Version:   e.Version,
		Metadata:  other.strings(),
		Endpoints: []string{"grpc://" + e.Addr, "grpcs://" + e.Addr},
	})
}

// kratos reads a kratos ServiceInstance: the first of its endpoints that speaks
// gRPC and can be dialed.
func (d document) kratos(string) (Endpoint, error) {
	endpoints, err := elements("endpoints", d[fieldEndpoints])
	if err != nil {
		return Endpoint{}, err
	}

	var firstErr error
	for _, raw := range endpoints {
		addr, err := kratosAddr(raw)
		firstErr = cmp.Or(firstErr, err)

		if err != nil || addr == "" {
			continue
		}

		e := Endpoint{Addr: addr}
		e.take(d[fieldLower])
		takeText(&e.Version, d[fieldVersion])

		return e, nil
	}

	return Endpoint{}, cmp.Or(firstErr,
		errors.New("none of the endpoints is grpc:// or grpcs://"))
}

// kratosAddr returns the address of an endpoint that speaks gRPC, "" if it
// speaks something else.
func kratosAddr(raw json.RawMessage) (string, error) {
	endpoint, err := text("endpoint", raw)
	if err != nil {
		return "", err
	}

	scheme, _, _ := strings.Cut(endpoint, "://")
	if scheme != "grpc" && scheme != "grpcs" {
		return "", nil
	}

	u, err := url.Parse(endpoint)
	if err != nil {
		return "", fmt.Errorf("endpoint %.80q is not a URL", endpoint)
	}

	return u.Host, CheckAddr(u.Host, true)
}
