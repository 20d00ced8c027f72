package main

import (
	"os"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/showtest"
)

func TestTLS(t *testing.T) {
	showtest.RunOn(t, options, tell, "10 calls over TLS", "the caller cannot register a server", "a client without credentials is an error",
		"an impostor in etcd fails the handshake", "none reaches it, nor fails")
}

// TestScripts makes sure that the scripts are those of the documentation.
func TestScripts(t *testing.T) {
	page, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{"roles.sh": roles, "users.sh": users} {
		if !strings.Contains(string(page), script) {
			t.Errorf("docs/security.md does not have %s as it is", name)
		}
	}
}
