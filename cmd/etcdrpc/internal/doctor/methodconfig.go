package doctor

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// leastTimeout is what no call over a network ends within.
const leastTimeout = serviceconfig.Duration(100 * time.Microsecond)

// inVain is the code by which a server says that the call itself is wrong, in whichever state it is.
const inVain = "INVALID_ARGUMENT"

// checkMethodConfig finds what has calls fail, or made again in vain.
func (p *patient) checkMethodConfig(s *survey.Service, config *serviceconfig.Config) (all []Finding) {
	found := func(n int, severity Severity, problem string) {
		f := newFinding(KindMethodConfig, []string{p.full(s.Config.Key)}, fmt.Sprintf("methodConfig[%d] of the live policy %s", n, problem),
			fmt.Sprintf("etcdrpc policy set %s FILE with another", p.word(s.Key)))
		f.Severity = severity
		all = append(all, f)
	}
	zero := func(size *uint32) bool { return size != nil && *size == 0 }
	for n, m := range config.Methods {
		if m.Timeout != nil && *m.Timeout <= leastTimeout {
			found(n, Error, fmt.Sprintf("gives calls %s, so they fail before an answer can come", m.Timeout))
		}
		if zero(m.MaxRequestMessageBytes) || zero(m.MaxResponseMessageBytes) {
			found(n, Error, "allows messages of 0 bytes, so calls fail that say or are answered anything")
		}
		if m.Retry != nil && slices.Contains(m.Retry.Codes, inVain) {
			found(n, Warning, fmt.Sprintf("has calls made %d times that the server calls wrong in themselves: %s", m.Retry.MaxAttempts, inVain))
		}
	}
	return all
}

// checkHealthService finds a healthCheckConfig for a service whose health no instance tells: clients take them all for ill, and
// every call fails. A server may tell the health of names that it does not publish, so it is asked, with --deep.
func (p *patient) checkHealthService(s *survey.Service, config *serviceconfig.Config) []Finding {
	if config.HealthCheck == nil || config.HealthCheck.ServiceName == "" {
		return nil
	}
	name := config.HealthCheck.ServiceName
	f := newFinding(KindUnserved, []string{p.full(s.Config.Key)}, "",
		fmt.Sprintf("name a service whose health the servers tell, or \"\" for that of the server as a whole: etcdrpc policy set %s FILE", p.word(s.Key)))
	if p.heard != nil {
		asked, unknown := 0, 0
		for _, i := range s.Merged().Instances {
			if heard := p.heard[spot{s.Key, i.Addr}]; heard.grpc {
				asked++
				if heard.codes[name] == codes.NotFound {
					unknown++
				}
			}
		}
		if unknown == 0 {
			return nil
		}
		f.Severity = Error
		f.Problem = fmt.Sprintf("healthCheckConfig of the live policy names %.80q, of which %d of %d instances know no health, so clients call none of these", name, unknown, asked)
		return []Finding{f}
	}
	served, known := s.Served()
	if !known || served[serviceconfig.MethodName{Service: name}] {
		return nil
	}
	f.Problem = fmt.Sprintf("healthCheckConfig of the live policy names %s, which no instance publishes: unless servers tell its health all the same, every call fails (--deep asks them)", output.Quoted([]string{name}))
	return []Finding{f}
}
