package generator

import (
	"context"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/quickstart"
)

// setupPage is the page that describes setups, one in each section.
const setupPage = "../../docs/setup.md"

var setups = flag.Bool("setups", false, "follow the sections of docs/setup.md")

// TestSetups does what each section of the page says, in a project that init
// writes, and compiles the result.
func TestSetups(t *testing.T) {
	if !*setups {
		t.Skip("vets a module for each section: make release")
	}

	text, err := os.ReadFile(setupPage)
	kit.Must(t, err)

	tested := 0
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		name, body, _ := strings.Cut(section, "\n")
		var steps []setupStep
		for _, match := range setupBlock.FindAllStringSubmatch(body, -1) {
			steps = append(steps, setupStep{file: match[1], text: match[2]})
		}

		if len(steps) == 0 {
			continue
		}

		tested++
		t.Run(name, func(t *testing.T) { testSetup(t, steps) })
	}

	if tested != 9 {
		t.Errorf("%d sections of the page have a setup, want 9", tested)
	}

	t.Run("protoc on the PATH", func(t *testing.T) {
		dir := newProject(t, "protoc")
		inProject(t, dir, "go", "generate")
		checkGenerated(t, dir)
	})
}

// setupStep is a fenced block of the page: the content of a file, or commands
// if file is "".
type setupStep struct{ file, text string }

var setupBlock = regexp.MustCompile(
	"(?ms)(?:^`([^`\n]+)`:\n\n)?^```(?:sh setup|proto setup|yaml)\n(.*?)^```$")

func testSetup(t *testing.T, steps []setupStep) {
	dir := newProject(t, "")
	for _, step := range steps {
		if step.file != "" {
			writeFiles(t, dir, map[string]string{step.file: step.text})
			continue
		}

		inProject(t, dir, "bash", "-euxo", "pipefail", "-c", step.text)
	}

	inProject(t, dir, "go", "vet", "./...")

	if strings.Contains(steps[len(steps)-1].text, " buf ") {
		inProject(t, dir, "go", "tool", "-modfile=tools/go.mod", "buf", "lint")
	}

	checkGenerated(t, dir)
}

// newProject returns a directory with the files that init writes for
// example.com/greeter. onPath is the program that init finds on the PATH, ""
// for none.
func newProject(t *testing.T, onPath string) string {
	t.Helper()

	root, err := filepath.Abs("../..")
	kit.Must(t, err)

	files, err := quickstart.Project{
		Module:  "example.com/greeter",
		Replace: root,
		OnPath:  onPath,
	}.Files()
	kit.Must(t, err)

	dir := t.TempDir()
	writeFiles(t, dir, files)

	return dir
}

// inProject runs a command in the directory of a project. For machines without
// protoc, the PATH ends with a protoc that runs buf with the same arguments.
func inProject(t *testing.T, dir, name string, args ...string) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	bin := t.TempDir()
	const protoc = "#!/bin/sh\nexec go tool -modfile=tools/go.mod buf alpha protoc \"$@\"\n"
	kit.Must(t, os.WriteFile(filepath.Join(bin, "protoc"), []byte(protoc), 0o700))

	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=",
		"PATH="+os.Getenv("PATH")+string(filepath.ListSeparator)+bin)

	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("run %s %s: %v\n%s", name, strings.Join(args, " "), err, output)
	}
}

// checkGenerated checks that the project has generated code for the service and
// none for options.proto.
func checkGenerated(t *testing.T, dir string) {
	t.Helper()

	var ours []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		switch filepath.Base(path) {
		case "vendor":
			return fs.SkipDir
		case "greeter_etcd.pb.go":
			ours = append(ours, path)
		case "options.pb.go":
			t.Errorf("the project has %s, want no code for options.proto", path)
		}

		return err
	})
	if err != nil || len(ours) != 1 {
		t.Errorf("generated %q, error %v, want one greeter_etcd.pb.go", ours, err)
	}
}

// brokenSetups maps messages to commands that break a project. In the broken
// project, buf generate or go vet prints the message. All messages of buf that
// docs/troubleshooting.md quotes are among them.
var brokenSetups = map[string]string{
	"cannot find … in this scope":                             "sed -i '/options.proto/d' proto/greeter/v1/greeter.proto",
	"imported file does not exist":                            "rm -r third_party",
	"cannot resolve message field name for …":                 "sed -i 's/ key:/ kee:/' proto/greeter/v1/greeter.proto",
	"executable file not found in $PATH":                      "sed -i 's/\\[go, tool, \\(protoc-gen-go-etcd\\)\\]/\\1/' buf.gen.yaml",
	"unable to determine Go import path for …":                "sed -i '/go_package/d' proto/greeter/v1/greeter.proto",
	"no required module provides package …/etcd/discovery/v1": "sed -i '1a managed:\\n  enabled: true\\n  override:\\n    - {file_option: go_package_prefix, value: example.com/greeter/gen}' buf.gen.yaml",

	// Keys in two directories, which the plugin sees at once.
	`admin/v1/admin.proto:11:5: admin.v1.GreeterService: key "greeter/admin" lies under the key "greeter" of …(greeter/v1/greeter.proto:11:5)`: `mkdir -p proto/admin/v1; sed 's|greeter/v1;greeter|admin/v1;admin|; s|greeter.v1|admin.v1|; s|"greeter"|"greeter/admin"|' proto/greeter/v1/greeter.proto >proto/admin/v1/admin.proto`,
	`other/v1/other.proto:11:5: other.v1.GreeterService: key "/greeter" gives the TLS name "greeter", and so does`:                             `mkdir -p proto/other/v1; sed 's|greeter/v1;greeter|other/v1;other|; s|greeter.v1|other.v1|; s|"greeter"|"/greeter"|' proto/greeter/v1/greeter.proto >proto/other/v1/other.proto`,
}

// bufMessage matches a row of docs/troubleshooting.md that quotes a message of
// buf or of a plugin.
var bufMessage = regexp.MustCompile("(?m)^\\| buf: `(.+?)` \\|")

// TestBufMessages checks that each broken project gets the message that
// docs/troubleshooting.md quotes.
func TestBufMessages(t *testing.T) {
	if !*setups {
		t.Skip("generates code in a module for each message: make release")
	}

	page, err := os.ReadFile("../../docs/troubleshooting.md")
	kit.Must(t, err)

	for _, match := range bufMessage.FindAllStringSubmatch(string(page), -1) {
		if brokenSetups[match[1]] == "" {
			t.Errorf("brokenSetups has no entry for the message %q", match[1])
		}
	}

	for message, broken := range brokenSetups {
		t.Run(message, func(t *testing.T) {
			dir := newProject(t, "")
			inProject(t, dir, "bash", "-euc", broken)
			cmd := exec.CommandContext(t.Context(), "bash", "-ec",
				"go tool -modfile=tools/go.mod buf generate && go vet ./gen/...")
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
			output, err := cmd.CombinedOutput()

			parts := strings.Split(message, "…")
			for i, part := range parts {
				parts[i] = regexp.QuoteMeta(part)
			}

			if err == nil || !regexp.MustCompile(strings.Join(parts, ".+")).Match(output) {
				t.Errorf("buf generate: %v: %s, want the message %q", err, output, message)
			}
		})
	}
}
