package main

import (
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/plaintext"
)

// exposedTo returns the hosts that the password is sent to over a network without TLS.
func exposedTo(cfg clientv3.Config) []string {
	if cfg.Password == "" {
		return nil
	}
	return plaintext.Exposed(cfg.Endpoints, cfg.TLS != nil)
}

// checkPassword finds whether this command sends its own password where others can read it.
func (p *patient) checkPassword() []finding {
	if len(p.exposed) == 0 {
		return nil
	}
	return []finding{{kindPlaintext, []string{},
		fmt.Sprintf("the password of --user is sent without TLS to %s: whoever is on the way can read it", strings.Join(p.exposed, ", ")),
		"have etcd serve TLS, and give https:// in --endpoints or --cacert; services that use this etcd with a password send theirs in the same way"}}
}
