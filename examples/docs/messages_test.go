package docs

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// message matches a row of the troubleshooting page's tables that quotes a message.
var message = regexp.MustCompile("(?m)^\\| (?:(\\w+): )?`(.+?)` \\|")

// TestMessages finds the messages of the troubleshooting page in the source, where names and values are verbs of package fmt.
func TestMessages(t *testing.T) {
	source := map[string]string{"": sources(t, ".go", repository+"/runtime") + sources(t, ".go", repository+"/internal")}
	for from, module := range map[string]string{"gRPC": "google.golang.org/grpc", "protobuf": "google.golang.org/protobuf"} {
		source[from] = moduleSource(t, module)
	}
	messages := message.FindAllStringSubmatch(read(t, filepath.Join(repository, "docs", "troubleshooting.md")), -1)
	if len(messages) < 45 {
		t.Fatalf("found %d messages", len(messages))
	}
	for _, match := range messages {
		from, quoted := match[1], match[2]
		if from == "buf" {
			continue // integration/generator provokes these
		}
		if from == "Go" {
			// Compiler messages: the missing name must be one that generated code uses.
			from, quoted = "", quoted[strings.LastIndex(quoted, ".")+1:]
			quoted = strings.TrimSuffix(quoted, "…")
		}
		if !format(quoted).MatchString(source[from]) {
			t.Errorf("the source has no message %q", match[2])
		}
	}
}

// format returns a pattern for the message: the text with verbs in place of the dots, quoted as in Go.
func format(message string) *regexp.Regexp {
	parts := strings.Split(message, "…")
	for i, part := range parts {
		parts[i] = strings.ReplaceAll(regexp.QuoteMeta(part), `"`, `\\?"`)
	}
	return regexp.MustCompile(strings.Join(parts, `(?:%[+#.0-9]*[a-z])+`))
}

// moduleSource returns the source of a module's packages.
func moduleSource(t *testing.T, module string) string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatalf("go list -m %s: %v", module, err)
	}
	return sources(t, ".go", strings.TrimSpace(string(output)))
}
