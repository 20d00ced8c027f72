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
)

// editTries bounds how often an edit is done anew because someone else was faster.
const editTries = 10

// EditDrained changes the live policy of a service by what change does to it, again and again until
// nobody else has changed it meanwhile.
func EditDrained(ctx context.Context, s *store.Store, e Edit, change func(*survey.Service, *liveconfig.Config) (notes []string, err error)) (*Edit, error) {
	key := e.Key
	for try := 1; ; try++ {
		found, _, _, err := s.Service(ctx, key)
		if err != nil {
			return nil, err
		}
		e.Old, e.Service = found.Config, found
		config, err := liveconfig.Parse([]byte(e.OldText()))
		if err != nil {
			return nil, fmt.Errorf("%w; mend it with policy set or policy rm", err)
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
	drained, err := c.Drained()
	if err != nil {
		return err
	}
	clients := s.Merged()
	called := cmp.Or(clients.At(i.Addr), i)
	if called.OnList(drained) {
		return nil
	}
	drained = append(drained, s.DrainName(i, called))
	if err := clients.CheckLeft(drained); err != nil {
		return err
	}
	if err := clients.CheckLanesLeft(liveconfig.Policy([]byte(c.String())), drained); err != nil {
		return err
	}
	begins := !c.NamesPolicy()
	child, err := b.child(clients, c)
	if err != nil {
		return err
	}
	if err := c.SetDrained(drained, child); err != nil {
		return err
	}
	if begins && b.PreferZone {
		return c.Set("preferZone", true)
	}
	return nil
}

// ErrNotDrained is an instance that is not in the list of those to drain.
var ErrNotDrained = errors.New("it is not drained")

// Undrain takes an instance off the list of those to drain.
func Undrain(s *survey.Service, c *liveconfig.Config, name string) (notes []string, err error) {
	drained, err := c.Drained()
	if err != nil {
		return nil, err
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
	left := slices.DeleteFunc(slices.Clone(drained), func(d string) bool { return slices.Contains(names, d) })
	if len(left) == len(drained) {
		if len(drained) == 0 {
			return nil, fmt.Errorf("%w: nothing is", ErrNotDrained)
		}
		return nil, fmt.Errorf("%w; what is: %s", ErrNotDrained, strings.Join(drained, ", "))
	}
	if err := c.SetDrained(left, nil); err != nil {
		return nil, err
	}
	if len(left) > 0 || !c.BegunByDrain() {
		return nil, nil
	}
	return []string{fmt.Sprintf("Nothing is drained any more, but this policy still stands in place of the generated one; "+
		"if that is not wanted: etcdrpc policy rm %s", s.Key)}, nil
}
