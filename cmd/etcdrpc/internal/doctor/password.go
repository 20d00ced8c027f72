package doctor

import (
	"fmt"
	"strings"
)

// checkPassword finds whether this command sends its own password where others can read it.
func (p *patient) checkPassword() []Finding {
	if len(p.exposed) == 0 {
		return nil
	}
	return []Finding{{KindPlaintext, []string{},
		fmt.Sprintf("the password of --user is sent without TLS to %s: whoever is on the way can read it", strings.Join(p.exposed, ", ")),
		"have etcd serve TLS, and give https:// in --endpoints or --cacert; services that use this etcd with a password send theirs in the same way"}}
}
