package serviceconfig

import (
	"errors"
	"fmt"
)

// Linked returns an error if a list of policies has none that is registered. gRPC and the policy "etcd"
// use the first of a list that is, so lists below the others do not count.
func (c *Config) Linked(registered func(name string) bool) error {
	policies := c.LoadBalancing
	for len(policies) > 0 {
		p, err := FirstLinked(policies, registered)
		if err != nil {
			return err
		}
		policies = p.children()
	}
	return nil
}

// FirstLinked returns the first policy of a list that is registered. If there is none, the error says how
// to link the first of the list.
func FirstLinked(policies []Policy, registered func(name string) bool) (Policy, error) {
	for _, p := range policies {
		if registered(p.Name) {
			return p, nil
		}
	}
	if len(policies) == 0 {
		return Policy{}, errors.New("the list of policies is empty")
	}
	name := policies[0].Name
	return Policy{}, fmt.Errorf("the policy %.80q is not linked%s", name, hint(name))
}

// hint says how to link a policy, as the end of an error's text.
func hint(policy string) string {
	if from := policyRules[policy].from; from != "" {
		return fmt.Sprintf(" in this binary: import _ %q", from)
	}
	return ""
}
