package endpoint

import (
	"encoding/json"
	"maps"
	"strconv"
	"strings"
)

func encodePlain(_ string, e Endpoint) ([]byte, error) { return []byte(e.Addr), nil }

// encodeNaming writes the value of etcd's naming package.
func encodeNaming(_ string, e Endpoint) ([]byte, error) {
	metadata := make(map[string]any, len(e.Metadata)+3)
	for name, value := range e.Metadata {
		metadata[name] = value
	}
	if e.Version != "" {
		metadata[nameVersion] = e.Version
	}
	if e.Zone != "" {
		metadata[nameZone] = e.Zone
	}
	if e.Weight != 0 {
		metadata[nameWeight] = e.Weight
	}
	return json.Marshal(struct {
		Op       int
		Addr     string
		Metadata map[string]any `json:",omitempty"`
	}{Addr: e.Addr, Metadata: metadata})
}

// encodeKratos writes a kratos ServiceInstance. Its reader skips an entry whose name is not the
// service's, and looks for grpc or for grpcs by how it dials: which of them the server speaks is
// the dialer's to know, so both are there.
func encodeKratos(key string, e Endpoint) ([]byte, error) {
	metadata := e.strings()
	if e.Weight != 0 {
		metadata[nameWeight] = strconv.FormatUint(uint64(e.Weight), 10)
	}
	return json.Marshal(struct {
		ID        string            `json:"id"`
		Name      string            `json:"name"`
		Version   string            `json:"version"`
		Metadata  map[string]string `json:"metadata"`
		Endpoints []string          `json:"endpoints"`
	}{
		ID: e.Instance, Name: key[strings.LastIndexByte(key, '/')+1:], Version: e.Version,
		Metadata: metadata, Endpoints: []string{"grpc://" + e.Addr, "grpcs://" + e.Addr},
	})
}

// encodeKitex writes the value of kitex' registry-etcd, every field of it, as its own writer does. Its
// reader takes a weight of 0 for its default.
func encodeKitex(_ string, e Endpoint) ([]byte, error) {
	tags := e.strings()
	if e.Version != "" {
		tags[nameVersion] = e.Version
	}
	if len(tags) == 0 {
		tags = nil
	}
	return json.Marshal(struct {
		Network string            `json:"network"`
		Address string            `json:"address"`
		Weight  uint32            `json:"weight"`
		Tags    map[string]string `json:"tags"`
	}{Network: "tcp", Address: e.Addr, Weight: e.Weight, Tags: tags})
}

// strings is the metadata with the zone, which neither kratos nor kitex has a field for.
func (e Endpoint) strings() map[string]string {
	all := make(map[string]string, len(e.Metadata)+3)
	maps.Copy(all, e.Metadata)
	if e.Zone != "" {
		all[nameZone] = e.Zone
	}
	return all
}
