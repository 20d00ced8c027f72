package steer

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// Callees returns the instances that clients send a call to, in the order in which to try them: at random, by their shares
// of the calls under the live policy, or by the same for each if clients go by none. random returns numbers from 0 to below 1.
func Callees(s *survey.Service, from Caller, random func() float64) (all []survey.Instance, err error) {
	x, err := Explain(s, from)
	shares, drawn := x.ByEntry(), make(map[string]float64)
	for _, i := range s.Merged().Instances {
		share := shares[i.Entry.Key].Share
		if err != nil && i.Serves(from.Method) {
			share = 1
		}
		if share > 0 {
			// The greatest of such powers is that of each instance in proportion to its share.
			drawn[i.Addr] = math.Pow(random(), 1/share)
			all = append(all, i)
		}
	}
	if len(all) == 0 {
		return nil, noCallee(s, from.Method)
	}
	slices.SortStableFunc(all, func(a, b survey.Instance) int { return cmp.Compare(drawn[b.Addr], drawn[a.Addr]) })
	return all, nil
}

// EveryCallee returns all instances but those that are drained.
func EveryCallee(s *survey.Service, method string) (callees []survey.Instance, drained []string, err error) {
	kept := s.Drained()
	for _, i := range s.Merged().Instances {
		switch {
		case !i.Serves(method):
		case kept[i.Addr]:
			drained = append(drained, i.Instance)
		default:
			callees = append(callees, i)
		}
	}
	if len(callees) == 0 {
		return nil, nil, noCallee(s, method)
	}
	return callees, drained, nil
}

// noCallee says why there is nothing to call.
func noCallee(s *survey.Service, method string) error {
	serve := func(i survey.Instance) bool { return i.Serves(method) }
	switch {
	case len(s.Instances) == 0 && len(s.Malformed) > 0:
		return fmt.Errorf("no client can read the %s under this key: etcdrpc doctor %s says why", strings.TrimPrefix(output.Counted(len(s.Malformed), "entry"), "1 "), s.Word())
	case len(s.Instances) == 0:
		return errors.New("no instance is registered under this key: etcdrpc ls shows what there is")
	case !slices.ContainsFunc(s.Instances, serve):
		return fmt.Errorf("no instance says that it serves %s: there are %s", method, output.SomeOf(s.Methods()))
	case len(s.Merged().Instances) == 0:
		return errors.New("every instance is being withdrawn by its owner: --instance ID calls one all the same")
	}
	return fmt.Errorf("clients call no instance that serves %s: etcdrpc policy explain %s says why; --instance ID calls one all the same", method, s.Word())
}
