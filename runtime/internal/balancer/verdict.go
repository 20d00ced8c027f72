package balancer

import "fmt"

// maxVerdicts bounds how many configs are remembered as bad.
const maxVerdicts = 16

// verdicts remembers which configs made a policy below panic, and the last config that worked.
type verdicts struct {
	good *config
	bad  map[verdictKey]error
}

type verdictKey struct{ policy, config string }

// of returns why a config is bad, nil if it is not.
func (v *verdicts) of(c *childConfig) error { return v.bad[verdictKey{c.name(), c.text}] }

// condemn notes that a policy panicked with a config. It returns nil if that was known.
func (v *verdicts) condemn(c childConfig, why error) error {
	if v.of(&c) != nil {
		return nil
	}
	if len(v.bad) >= maxVerdicts {
		v.bad = nil
	}
	if v.bad == nil {
		v.bad = make(map[verdictKey]error)
	}
	err := fmt.Errorf("etcd: the policy %q is not used: %w", c.name(), why)
	v.bad[verdictKey{c.name(), c.text}] = err
	return err
}

// choose returns the config to use: the wanted one or, if that is bad, the last good one or the one that
// serves; nil if all are bad. err is why the wanted one is bad.
func (v *verdicts) choose(wanted, serving *config) (c *config, err error) {
	err = v.of(&wanted.child)
	for _, c := range []*config{wanted, v.good, serving} {
		if c != nil && v.of(&c.child) == nil {
			return c, err
		}
	}
	return nil, err
}
