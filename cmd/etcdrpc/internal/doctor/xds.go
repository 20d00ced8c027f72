package doctor

import (
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// checkXDS finds what of a service clients by xDS cannot be told. A live policy that nobody goes by has a finding of its own.
func (p *patient) checkXDS(s *survey.Service, d *Options) []Finding {
	if !s.InUse() {
		return nil
	}
	config, where := "", p.full(s.Key)+"/"
	if s.Config != nil {
		if live, err := s.Live(); err == nil {
			config, where = live.JSON(), p.full(s.Config.Key)
		}
	}
	var endpoints []runtime.Endpoint
	for _, i := range s.Merged().Instances {
		endpoints = append(endpoints, runtime.Endpoint(i.Endpoint))
	}
	lost, err := d.Lost(config, endpoints)
	if err != nil {
		lost = []string{err.Error()}
	}
	if len(lost) == 0 {
		return nil
	}
	return []Finding{newFinding(KindXDS, []string{where}, "clients by xDS are not told all: "+strings.Join(lost, "; "),
		"if that matters, do without it where such clients call, or have them do it themselves: docs/xds.md")}
}
