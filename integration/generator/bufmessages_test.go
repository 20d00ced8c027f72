package generator

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// brokenSetups maps each message of buf in docs/troubleshooting.md to the change of init's setup that provokes it.
var brokenSetups = map[string]string{
	"cannot find … in this scope":                             "sed -i '/options.proto/d' proto/greeter/v1/greeter.proto",
	"imported file does not exist":                            "rm -r third_party",
	"cannot resolve message field name for …":                 "sed -i 's/ key:/ kee:/' proto/greeter/v1/greeter.proto",
	"executable file not found in $PATH":                      "sed -i 's/\\[go, tool, \\(protoc-gen-go-etcd\\)\\]/\\1/' buf.gen.yaml",
	"unable to determine Go import path for …":                "sed -i '/go_package/d' proto/greeter/v1/greeter.proto",
	"no required module provides package …/etcd/discovery/v1": "sed -i '1a managed:\\n  enabled: true\\n  override:\\n    - {file_option: go_package_prefix, value: example.com/greeter/gen}' buf.gen.yaml",
}

// bufMessage is a row of the page that quotes a message of buf or of a plugin that buf runs.
var bufMessage = regexp.MustCompile("(?m)^\\| buf: `(.+?)` \\|")

// TestBufMessages provokes each message that the page quotes.
func TestBufMessages(t *testing.T) {
	if !*setups {
		t.Skip("generates code in a module for each message: make release")
	}
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	found := bufMessage.FindAllStringSubmatch(string(page), -1)
	if len(found) != len(brokenSetups) {
		t.Errorf("the page has %d messages, want %d", len(found), len(brokenSetups))
	}
	for _, match := range found {
		t.Run(match[1], func(t *testing.T) {
			broken, ok := brokenSetups[match[1]]
			if !ok {
				t.Fatal("no set-up provokes the message")
			}
			dir := newProject(t)
			inProject(t, dir, "bash", "-euc", broken)
			cmd := exec.CommandContext(t.Context(), "bash", "-ec", "go tool -modfile=tools/go.mod buf generate && go vet ./gen/...")
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=", "GOWORK=off")
			output, err := cmd.CombinedOutput()
			parts := strings.Split(match[1], "…")
			for i, part := range parts {
				parts[i] = regexp.QuoteMeta(part)
			}
			if err == nil || !regexp.MustCompile(strings.Join(parts, ".+")).Match(output) {
				t.Errorf("it says %v: %s", err, output)
			}
		})
	}
}
