package main

import (
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
)

// The JSON output of services.
type (
	serviceJSON struct {
		Key       string           `json:"key"`
		Live      bool             `json:"livePolicy"` // there is a live config
		Instances []inventory.JSON `json:"instances"`
		Malformed []malformedJSON  `json:"malformed"`
	}
	malformedJSON struct {
		EtcdKey string `json:"etcdKey"`
		Error   string `json:"error"`
	}
)

// view is the filtered and sorted entries of a snapshot.
type view struct {
	*store.Snapshot
	filters []filter // an entry must pass all of them
	sort    string   // column or metadata name to sort by; "": keep the order
}

// all returns the entries of all services.
func (v *view) all() []*inventory.Instance { return inventory.Entries(v.Services) }

// shown returns the entries that pass the filters, sorted.
func (v *view) shown() []*inventory.Instance {
	all := slices.DeleteFunc(v.all(), func(i *inventory.Instance) bool {
		return slices.ContainsFunc(v.filters, func(f filter) bool { return !f.passes(i) })
	})
	if v.sort != "" {
		slices.SortStableFunc(all, func(a, b *inventory.Instance) int {
			return inventory.CompareNames(fieldOf(a, v.sort), fieldOf(b, v.sort))
		})
	}
	return all
}

// json returns the services of the shown entries, in their order.
func (v *view) json() []serviceJSON {
	all, at := []serviceJSON{}, make(map[string]int)
	services := make(map[string]*inventory.Service)
	for _, s := range v.Services {
		services[s.Key] = s
	}
	for _, i := range v.shown() {
		s := services[i.Service]
		n, ok := at[s.Key]
		if !ok {
			n = len(all)
			at[s.Key] = n
			all = append(all, serviceJSON{Key: s.Key, Live: s.Config != nil, Instances: []inventory.JSON{}, Malformed: []malformedJSON{}})
		}
		if i.Err != nil {
			all[n].Malformed = append(all[n].Malformed, malformedJSON{s.Namespace + i.Entry.Key, i.Err.Error()})
		} else {
			all[n].Instances = append(all[n].Instances, i.JSON(s.Namespace))
		}
	}
	return all
}
