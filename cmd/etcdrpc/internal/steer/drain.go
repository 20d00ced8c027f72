package steer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// editTries bounds how often an edit is done anew because someone else was faster.
const editTries = 10

// EditDrained changes the live policy of a service by what change does to it, again and again until
// nobody else has changed it meanwhile. What will come of it is written to e.Before, if that is set, before it is.
func EditDrained(ctx context.Context, s *store.Store, key string, e Edit, change func(*survey.Service, *liveconfig.Config) (notes []string, err error)) (*Edit, error) {
	for try := 1; ; try++ {
		found, _, err := s.Service(ctx, key)
		if err != nil {
			return nil, err
		}
		if found.Namespace, err = s.NamespaceOf(ctx, key); err != nil {
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

// NamespaceError is a key that lies in a namespace, so that nobody would read what is written at it.
type NamespaceError struct{ Namespace, Key string }

func (e *NamespaceError) Error() string {
	return fmt.Sprintf("it lies in the namespace %q, by what is kept there, where clients know it as %q and read no live policy of %q", e.Namespace, e.Key, e.Namespace+e.Key)
}

// CheckPlace returns a [NamespaceError] for a service whose clients read other live configs than those at its key.
func CheckPlace(s *survey.Service) error {
	if key, ok := strings.CutPrefix(s.Key, s.Namespace); ok && s.Namespace != "" {
		return &NamespaceError{s.Namespace, key}
	}
	return nil
}

// Drain adds instances to the list of those to drain, and says what calls do then.
func (b *Beginning) Drain(s *survey.Service, c *liveconfig.Config, names ...string) (notes []string, err error) {
	if err := CheckPlace(s); err != nil && !b.Force {
		return nil, err
	}
	clients := s.Merged()
	var now serviceconfig.Etcd
	if policy := c.Etcd(); policy != nil {
		now = *policy
	}
	then := now
	then.Drain = slices.Clone(now.Drain)
	for _, name := range names {
		i, err := s.Find(name)
		if err != nil {
			return nil, err
		}
		if called := cmp.Or(clients.At(i.Addr), i); !called.OnList(then.Drain) {
			then.Drain = append(then.Drain, s.DrainName(i, called))
		}
	}
	if err := checkFollowed(clients, &now, &then); err != nil {
		return nil, err
	}
	begins := !c.Balances()
	policy, err := b.policy(clients, c)
	if err == nil && !begins {
		err = b.checkStands(policy)
	}
	if err != nil {
		return nil, err
	}
	added := then.Drain[len(now.Drain):]
	if len(added) == 0 {
		return nil, nil
	}
	policy.Drain = then.Drain
	policy.PreferZone = policy.PreferZone || begins && b.PreferZone
	notes, groups, lanes := outlook(s, c.String(), added)
	if b.Force {
		return notes, nil
	}
	return notes, leavesNone(append(groups, lanes...))
}

// checkFollowed refuses a list that clients would not follow, though they follow the one there is now.
func checkFollowed(clients *survey.Service, now, then *serviceconfig.Etcd) error {
	_, before := clients.Drain(now)
	if _, after := clients.Drain(then); after.Ignored != 0 && after.Ignored != before.Ignored {
		return fmt.Errorf("clients would not follow that, for then the list to %s: register another first", after.Problem())
	}
	return nil
}

// ErrNotDrained is an instance that is not in the list of those to drain.
var ErrNotDrained = errors.New("it is not drained")

// Undrain takes instances off the list of those to drain.
func Undrain(s *survey.Service, c *liveconfig.Config, names ...string) (notes []string, err error) {
	if err := CheckPlace(s); err != nil {
		return nil, err
	}
	return undrain(s, c, names)
}

func undrain(s *survey.Service, c *liveconfig.Config, names []string) (notes []string, err error) {
	policy := c.Etcd()
	if policy == nil || len(policy.Drain) == 0 {
		return nil, fmt.Errorf("%w: nothing is", ErrNotDrained)
	}
	called := slices.Clone(names)
	for _, name := range names {
		found, err := s.Find(name)
		if err != nil {
			continue
		}
		called = append(called, found.Addr)
		for _, i := range s.Instances {
			if i.Addr == found.Addr { // clients know it by one of these
				called = append(called, i.Instance)
			}
		}
	}
	left := slices.DeleteFunc(slices.Clone(policy.Drain), func(d string) bool { return slices.Contains(called, d) })
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

// Choice is instances by what they say. What is "" makes no difference.
type Choice struct{ Zone, Version, Host string }

// Of returns the addresses of the instances of a service that are chosen.
func (c Choice) Of(s *survey.Service) (addrs []string, err error) {
	clients := s.Merged()
	for _, i := range clients.Instances {
		host, _, err := net.SplitHostPort(i.Addr)
		if matches := func(want, got string) bool { return want == "" || want == got }; err == nil &&
			matches(c.Zone, i.Zone) && matches(c.Version, i.Version) && matches(c.Host, host) {
			addrs = append(addrs, i.Addr)
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("none of the %s is so: etcdrpc ls %s shows what they say", output.Counted(len(clients.Instances), "instance"), output.Shell(s.Key))
	}
	return addrs, nil
}
