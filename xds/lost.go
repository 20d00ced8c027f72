package xds

import (
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/mapping"
)

// Lost returns the features of a service that xDS lacks, for people, sorted. It does not know which methods are for the leader.
func Lost(serviceConfig string, endpoints []runtime.Endpoint) ([]string, error) {
	policy, err := mapping.ReadPolicy(serviceConfig)
	if err != nil {
		return nil, err
	}
	host := &mapping.Host{Authority: "lost", Services: []mapping.Service{{Policy: policy}}}
	for _, e := range endpoints {
		host.Endpoints = append(host.Endpoints, endpoint.Endpoint(e))
	}
	s, err := mapping.Map(host, mapping.Client{})
	if err != nil {
		return nil, err
	}
	return s.Unsupported, nil
}
