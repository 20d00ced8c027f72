package steer

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// What an edit is refused for. These do not say how to go on: commands have flags for it, and pages a box.
var (
	ErrBroken = errors.New("clients do not go by the live policy, and running ones keep the last good one")
	ErrStands = errors.New("the live policy already says how to balance, and that is kept")
)

// DoneError is that what an edit is to take away is not there.
type DoneError string

func (e DoneError) Error() string { return string(e) }

// ErrNoPolicy is a service without a live policy.
const ErrNoPolicy DoneError = "there is no live policy: clients go by what their code was generated with"

// change makes the new config.
func (e *Edit) change() error {
	switch e.Kind {
	case Put:
		e.New = e.Config
		return nil
	case Remove:
		if e.Service.Config == nil {
			return ErrNoPolicy
		}
		return nil
	}
	_, broken := e.Service.Live() // also of an empty one, which the next takes for none
	c, err := liveconfig.Parse(e.OldText())
	if err = cmp.Or(broken, err); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	switch e.Kind {
	case Split:
		err = e.split(c)
	case Drain:
		err = e.drain(c)
	case Undrain:
		err = e.undrain(c)
	default:
		err = fmt.Errorf("%.20q is not an edit", e.Kind)
	}
	e.New = c.String()
	return err
}

// begin returns the policy "etcd" of a config, which it begins where there is none. The error is ErrStands where one stands that
// is not as it would be begun.
func (e *Edit) begin(c *liveconfig.Config) (*serviceconfig.Etcd, error) {
	child, err := liveconfig.ChildPolicy(cmp.Or(e.Child, liveconfig.DefaultPolicy))
	if err != nil {
		return nil, err
	}
	begins := !c.Balances()
	policy, err := c.Begin(child)
	switch {
	case err != nil:
		return nil, err
	case begins:
		policy.PreferZone = e.PreferZone
	case e.Child != "" && !reflect.DeepEqual(policy.ChildPolicy, child):
		return nil, fmt.Errorf("%w: it balances by %s", ErrStands, policyNames(policy.ChildPolicy))
	case e.Kind != Drain: // a split says nothing of the rest
	case e.PreferZone && !policy.PreferZone:
		return nil, fmt.Errorf("%w: it prefers no zone", ErrStands)
	case e.NoRoutes && policy.Route != nil:
		return nil, fmt.Errorf("%w: it has routes", ErrStands)
	}
	return policy, nil
}

func policyNames(policies []serviceconfig.Policy) string {
	names := make([]string, len(policies))
	for n, p := range policies {
		names[n] = p.Name
	}
	return strings.Join(names, ", ")
}

func (e *Edit) split(c *liveconfig.Config) error {
	if len(e.Groups) == 0 && len(c.Policy().Split) == 0 {
		return DoneError("calls are not split")
	}
	policy, err := e.begin(c)
	if err != nil {
		return err
	}
	if policy.Split = e.Groups; len(e.Groups) == 0 {
		e.noteRest(c, "split")
	}
	return nil
}

// drain adds instances to the list of those to drain.
func (e *Edit) drain(c *liveconfig.Config) error {
	names, err := e.instances()
	if err != nil {
		return err
	}
	find, byAddr, list := e.Service.Finder(), e.Service.Merged().ByAddr(), c.Policy().Drain
	listed := survey.ListOf(list)
	for _, name := range names {
		i, err := find(name)
		if err != nil {
			return err
		}
		e.addrs = append(e.addrs, i.Addr)
		if called := cmp.Or(byAddr[i.Addr], i); !listed.Has(called) {
			name := i.DrainName(called)
			list, listed[name] = append(list, name), true
		}
	}
	policy, err := e.begin(c)
	if err == nil {
		policy.Drain = list
	}
	return err
}

// undrain takes instances off the list of those to drain.
func (e *Edit) undrain(c *liveconfig.Config) error {
	names, err := e.instances()
	if err != nil {
		return err
	}
	policy := c.Etcd()
	if policy == nil || len(policy.Drain) == 0 {
		return DoneError("it is not drained: nothing is")
	}
	find, called, addrs := e.Service.Finder(), survey.ListOf(names), make(map[string]bool)
	for _, name := range names {
		found, err := find(name)
		if err != nil {
			if !e.Force && !slices.Contains(policy.Drain, name) {
				return fmt.Errorf("it is not drained, and %q is not registered; what is drained: %s", name, strings.Join(policy.Drain, ", "))
			}
			continue
		}
		called[found.Addr], addrs[found.Addr] = true, true
	}
	for _, i := range e.Service.Instances {
		if addrs[i.Addr] { // clients know it by one of these
			called[i.Instance] = true
		}
	}
	left := slices.DeleteFunc(slices.Clone(policy.Drain), func(d string) bool { return called[d] })
	if len(left) == len(policy.Drain) {
		return DoneError("it is not drained; what is: " + strings.Join(left, ", "))
	}
	if policy.Drain = left; len(left) > 0 {
		return nil
	}
	policy.Drain = nil
	e.noteRest(c, "drained")
	return nil
}

// noteRest says that a config which does no more of what it was begun for is still in force.
func (e *Edit) noteRest(c *liveconfig.Config, done string) {
	if c.BegunByDrain() {
		e.note("Nothing is %s any more, but this policy still stands in place of the generated one; if that is not wanted: etcdrpc policy rm %s", done, e.Service.Word())
	}
}

// Choice is instances by what they say. What is "" makes no difference.
type Choice struct{ Zone, Version, Host string }

// instances returns the names of those that are to be drained or undrained, for clients that read what is written.
func (e *Edit) instances() ([]string, error) {
	names := e.Names
	if len(names) == 0 {
		names = e.Choice.of(e.Service.Merged())
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("none of the %s matches: etcdrpc ls %s shows them", output.Counted(len(e.Service.Merged().Instances), "instance"), e.Service.Word())
	}
	return names, nil
}

// of returns the addresses of the instances that are chosen.
func (c Choice) of(clients *survey.Service) (addrs []string) {
	if c == (Choice{}) {
		return nil
	}
	matches := func(want, got string) bool { return want == "" || want == got }
	for _, i := range clients.Instances {
		host, _, err := net.SplitHostPort(i.Addr)
		if err == nil && matches(c.Zone, i.Zone) && matches(c.Version, i.Version) && matches(c.Host, host) {
			addrs = append(addrs, i.Addr)
		}
	}
	return addrs
}
