package serviceconfig

import (
	"errors"
	"fmt"
)

// Linked returns an error if a list of policies has none that is registered. gRPC and the policy "etcd" use
// the first registered policy of a list, so the child policies of the others do not count.
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

// FirstLinked returns the first registered policy of a list. If there is none, the error says how to link the first policy.
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

// hint returns the end of an error's text, on how to link a policy.
func hint(policy string) string {
	if from := policyRules[policy].from; from != "" {
		return fmt.Sprintf(" in this binary: import _ %q", from)
	}
	return ""
}
