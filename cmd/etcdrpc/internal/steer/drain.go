package steer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// editTries bounds how often an edit is done anew because someone else was faster.
const editTries = 10

// EditDrained changes the live policy of a service by what change does to it, again and again until
// nobody else has changed it meanwhile.
func EditDrained(ctx context.Context, s *store.Store, key string, e Edit, change func(*survey.Service, *liveconfig.Config) (notes []string, err error)) (*Edit, error) {
	for try := 1; ; try++ {
		found, _, _, err := s.Service(ctx, key)
		if err != nil {
			return nil, err
		}
		e.Service = found
		config, err := liveconfig.Parse(e.OldText())
		if err != nil {
			return nil, fmt.Errorf("clients do not go by the live policy: %w; mend it with policy set or policy rm", err)
		}
		if e.Notes, err = change(found, config); err != nil {
			return nil, err
		}
		e.New = config.String()
		if err = e.Apply(ctx, s); errors.Is(err, store.ErrChanged) && try < editTries {
			continue
		}
		return &e, err
	}
}

// Drain adds an instance to the list of those to drain.
func (b *Beginning) Drain(s *survey.Service, c *liveconfig.Config, name string) error {
	i, err := s.Find(name)
	if err != nil {
		return err
	}
	clients := s.Merged()
	called := cmp.Or(clients.At(i.Addr), i)
	var now serviceconfig.Etcd
	if policy := c.Etcd(); policy != nil {
		now = *policy
	}
	if called.OnList(now.Drain) {
		return nil
	}
	then := now
	then.Drain = append(slices.Clone(now.Drain), s.DrainName(i, called))
	if err := checkLeft(clients, &now, &then); err != nil {
		return err
	}
	begins := !c.Balances()
	policy, err := b.policy(clients, c)
	if err != nil {
		return err
	}
	policy.Drain = then.Drain
	policy.PreferZone = policy.PreferZone || begins && b.PreferZone
	return nil
}

// checkLeft refuses a list that clients would not follow, though they follow the one there is now, and one that leaves no
// instance of a strict lane, whose calls would fail.
func checkLeft(clients *survey.Service, now, then *serviceconfig.Etcd) error {
	_, before := clients.Drain(now)
	if _, after := clients.Drain(then); after.Ignored != 0 && after.Ignored != before.Ignored {
		return fmt.Errorf("clients would not follow that, for then the list to %s: register another first", after.Problem())
	}
	placed := clients.Placement(then)
	if placed == nil {
		return nil
	}
	lanes := serviceconfig.NewLanes(then.Route)
	for _, lane := range placed.Made {
		left := func(list []string) bool {
			for i, in := range placed.Of {
				if slices.Contains(in, lane) && !clients.Instances[i].OnList(list) {
					return true
				}
			}
			return false
		}
		if lanes.Strict(lane) && left(now.Drain) && !left(then.Drain) {
			return fmt.Errorf("it is the last one in the lane %q that is not drained, and the calls of the lane would fail, for it is strict: register another first", lane)
		}
	}
	return nil
}

// ErrNotDrained is an instance that is not in the list of those to drain.
var ErrNotDrained = errors.New("it is not drained")

// Undrain takes an instance off the list of those to drain.
func Undrain(s *survey.Service, c *liveconfig.Config, name string) (notes []string, err error) {
	policy := c.Etcd()
	if policy == nil || len(policy.Drain) == 0 {
		return nil, fmt.Errorf("%w: nothing is", ErrNotDrained)
	}
	names := []string{name}
	if found, err := s.Find(name); err == nil {
		names = append(names, found.Addr)
		for _, i := range s.Instances {
			if i.Addr == found.Addr { // clients know it by one of these
				names = append(names, i.Instance)
			}
		}
	}
	left := slices.DeleteFunc(slices.Clone(policy.Drain), func(d string) bool { return slices.Contains(names, d) })
	if len(left) == len(policy.Drain) {
		return nil, fmt.Errorf("%w; what is: %s", ErrNotDrained, strings.Join(left, ", "))
	}
	if policy.Drain = left; len(left) == 0 {
		policy.Drain = nil
	}
	if len(left) > 0 || !c.BegunByDrain() {
		return nil, nil
	}
	return []string{fmt.Sprintf("Nothing is drained any more, but this policy still stands in place of the generated one; "+
		"if that is not wanted: etcdrpc policy rm %s", s.Key)}, nil
}
