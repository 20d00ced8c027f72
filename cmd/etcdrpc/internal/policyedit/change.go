package policyedit

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

const refused = "clients refuse the live policy, and running ones keep the last valid one: "

// ErrNoPolicy is returned for a service without a live policy.
var ErrNoPolicy = errors.New("there is no live policy: clients use the generated config")

// buildConfig sets the new config.
func (e *Edit) buildConfig() error {
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
	_, refusal := e.Service.Live() // Parse accepts an empty config, clients do not
	c, err := liveconfig.Parse(e.OldText())
	if err = cmp.Or(refusal, err); err != nil {
		return fmt.Errorf(refused+"%w; fix it with policy set or policy rm", err)
	}
	switch e.Kind {
	case Split:
		err = e.split(c)
	case Drain:
		err = e.drain(c)
	case Undrain:
		err = e.undrain(c)
	default:
		err = fmt.Errorf("unknown kind of edit %.20q", e.Kind)
	}
	e.New = c.String()
	return err
}

// ensurePolicy returns the policy "etcd" of a config, and adds it if there is none. It returns an error if an existing policy
// differs from the options of the edit.
func (e *Edit) ensurePolicy(c *liveconfig.Config) (*serviceconfig.Etcd, error) {
	child, err := liveconfig.ChildPolicy(cmp.Or(e.Child, liveconfig.DefaultPolicy))
	if err != nil {
		return nil, err
	}
	isNew, conflict := !c.Balances(), ""
	policy, err := c.EnsureEtcd(child)
	switch {
	case err != nil:
		return nil, err
	case isNew:
		policy.PreferZone = e.PreferZone
	case e.Child != "" && !reflect.DeepEqual(policy.ChildPolicy, child):
		conflict = "it balances by " + policyNames(policy.ChildPolicy)
	case e.Kind != Drain: // an edit of the split keeps preferZone and the routes
	case e.PreferZone && !policy.PreferZone:
		conflict = "it has no preferZone"
	case e.NoRoutes && policy.Route != nil:
		conflict = "it has routes"
	}
	if conflict != "" {
		return nil, fmt.Errorf("the live policy already sets load balancing, and is not overwritten: %s. Omit --child-policy, --prefer-zone and --no-routes, or change it: %s", conflict, e.Service.Guarded("policy set", "FILE"))
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
		return errors.New("calls are not split")
	}
	policy, err := e.ensurePolicy(c)
	if err != nil {
		return err
	}
	if policy.Split = e.Groups; len(e.Groups) == 0 {
		e.noteLeftover(c, "split")
	}
	return nil
}

// drain adds instances to the list "drain".
func (e *Edit) drain(c *liveconfig.Config) error {
	names, err := e.instances()
	if err != nil {
		return err
	}
	find, byAddr, list := e.Service.Finder(), e.Service.Merged().ByAddr(), c.Policy().Drain
	listed := inventory.ListOf(list)
	for _, name := range names {
		i, err := find(name)
		if err != nil {
			return err
		}
		e.addrs = append(e.addrs, i.Addr)
		if called := cmp.Or(byAddr[i.Addr], i); !listed.Has(called) {
			name := i.Instance
			if called.Instance != name { // clients use another id for the address
				name = i.Addr
			}
			list, listed[name] = append(list, name), true
		}
	}
	policy, err := e.ensurePolicy(c)
	if err == nil {
		policy.Drain = list
	}
	return err
}

// undrain removes instances from the list "drain".
func (e *Edit) undrain(c *liveconfig.Config) error {
	names, err := e.instances()
	if err != nil {
		return err
	}
	policy := c.Etcd()
	if policy == nil || len(policy.Drain) == 0 {
		return errors.New("no instance is drained: the list is empty")
	}
	find, undrained, addrs := e.Service.Finder(), inventory.ListOf(names), make(map[string]bool)
	for _, name := range names {
		found, err := find(name)
		if err != nil {
			if !e.Force && !slices.Contains(policy.Drain, name) {
				return fmt.Errorf("instance %q is not registered and not drained; drained are: %s", name, strings.Join(policy.Drain, ", "))
			}
			continue
		}
		undrained[found.Addr], addrs[found.Addr] = true, true
	}
	for _, i := range e.Service.Instances {
		if addrs[i.Addr] { // clients may know the address by any of these ids
			undrained[i.Instance] = true
		}
	}
	left := slices.DeleteFunc(slices.Clone(policy.Drain), func(d string) bool { return undrained[d] })
	if len(left) == len(policy.Drain) {
		return errors.New("none of these instances is drained; drained are: " + strings.Join(left, ", "))
	}
	if policy.Drain = left; len(left) > 0 {
		return nil
	}
	policy.Drain = nil
	e.noteLeftover(c, "drained")
	return nil
}

// noteLeftover notes that a policy without effect still replaces the generated one.
func (e *Edit) noteLeftover(c *liveconfig.Config, done string) {
	if c.IsMinimal() {
		e.note("Nothing is %s any more, but this policy still replaces the generated one; policy rm removes it.", done)
	}
}

// Choice selects instances by their fields. An empty field matches every instance.
type Choice struct{ Zone, Version, Host string }

// instances returns the names of the instances to drain or undrain.
func (e *Edit) instances() ([]string, error) {
	names := e.Names
	if len(names) == 0 {
		names = e.Choice.addrs(e.Service.Merged())
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("none of the %s matches: compare with: %s", output.Counted(len(e.Service.Merged().Instances), "instance"), e.Service.Command("ls"))
	}
	return names, nil
}

// addrs returns the addresses of the instances that match.
func (c Choice) addrs(clients *inventory.Service) (found []string) {
	if c == (Choice{}) {
		return nil
	}
	matches := func(want, got string) bool { return want == "" || want == got }
	for _, i := range clients.Instances {
		host, _, err := net.SplitHostPort(i.Addr)
		if err == nil && matches(c.Zone, i.Zone) && matches(c.Version, i.Version) && matches(strings.Trim(c.Host, "[]"), host) {
			found = append(found, i.Addr)
		}
	}
	return found
}
