package doctor

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// checkMetadata finds what an instance says of itself and no caller can read.
func (p *patient) checkMetadata(i *survey.Instance) (all []Finding) {
	found := func(problem, fix string) {
		all = append(all, newFinding(KindMetadata, []string{p.full(i.Entry.Key)}, i.Addr+" "+problem, fix))
	}
	if text, said := i.Metadata["weight"]; said && i.Weight == 0 {
		found(fmt.Sprintf("has the weight %.40q, which is no whole number up to 4294967295, so callers take it for none", text), "have its server write a whole number")
	}
	if text, said := i.Metadata[endpoint.StartedName]; said {
		if _, err := strconv.ParseUint(text, 10, 33); err != nil {
			found(fmt.Sprintf("says that it started at %.40q, which are no seconds since 1970, so slow_start passes it by", text), "have its server write seconds, or leave "+endpoint.StartedName+" out")
		}
	}
	if n := len(i.Metadata[endpoint.MethodsName]); n > endpoint.MaxMethods {
		found(fmt.Sprintf("publishes its methods in %d bytes, more than the %d that callers read, so they send any method to it", n, endpoint.MaxMethods),
			"have its server leave "+endpoint.MethodsName+" out, or name fewer")
	}
	if host, port, err := net.SplitHostPort(i.Addr); err == nil && !strings.Contains(string(i.Entry.Value), i.Addr) && strings.Count(host, ":") > 1 {
		if at := strings.LastIndexByte(host, ':'); len(host)-at > 4 && strings.Trim(host[at+1:], "0123456789") == "" {
			found(fmt.Sprintf("is called at port %s, for its entry has the IPv6 address %s and no port: without brackets, %s is no port of %s", port, host, host[at+1:], host[:at]),
				fmt.Sprintf("if it is one, have its server write [%s]:%s", host[:at], host[at+1:]))
		}
	}
	return all
}

// mostOfCalls is the part of the calls from which on a weight is likely a slip: of 1000 beside 10, say.
const mostOfCalls = 0.9

// checkWeights finds an instance that gets nearly all calls by its weight, of several that the live policy goes by.
func (p *patient) checkWeights(s *survey.Service, policy *serviceconfig.Etcd) []Finding {
	if name := policy.ChildPolicy[0].Name; name != serviceconfig.WeightedName && name != serviceconfig.RingHashName {
		return nil
	}
	clients := s.Merged()
	drained, _ := clients.Drain(policy)
	var most *survey.Instance
	sum, n := 0.0, 0
	for at := range clients.Instances {
		i := &clients.Instances[at]
		if drained[i.Addr] {
			continue
		}
		n++
		sum += float64(max(i.Weight, 1))
		if most == nil || i.Weight > most.Weight {
			most = i
		}
	}
	if n < 3 || float64(most.Weight) <= mostOfCalls*sum { // of two, one may be a canary
		return nil
	}
	return []Finding{newFinding(KindMetadata, []string{p.full(most.Entry.Key)},
		fmt.Sprintf("%s has the weight %d, and so %.0f %% of the calls to %s", most.Addr, most.Weight, 100*float64(most.Weight)/sum, output.Counted(n, "instance")),
		"if that is not meant, have its server write a weight like those of the others: etcdrpc ls "+p.word(s.Key))}
}

// checkTooMany finds a service with more than clients keep, unless they are told to by runtime.WithLimits.
func (p *patient) checkTooMany(s *survey.Service) []Finding {
	const (
		maxEntries = 20_000
		maxBytes   = 32 << 20
	)
	entries, bytes := len(s.Instances)+len(s.Malformed), 0
	for _, i := range s.Instances {
		bytes += len(i.Entry.Key) + len(i.Entry.Value)
	}
	if entries <= maxEntries && bytes <= maxBytes {
		return nil
	}
	return []Finding{newFinding(KindTooMany, []string{p.full(s.Key) + "/"},
		fmt.Sprintf("there are %d entries of %d KiB, and clients keep %d of %d KiB unless they are told otherwise: they do not call the rest", entries, bytes>>10, maxEntries, maxBytes>>10),
		"if they are meant, give clients more room by runtime.WithLimits; if not, find out who puts them: etcdrpc ls "+p.word(s.Key))}
}
