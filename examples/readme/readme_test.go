package readme

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/quickstart"
)

const repository = "../.."

// TestQuickstart runs the README's quickstart in an empty directory, as a reader would.
func TestQuickstart(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the tools of a new module")
	}
	requireFree(t, "127.0.0.1:2379") // where the README has etcd
	blocks := section(t, "Quickstart")
	output := runScript(t, script(blocks), publish(t))

	before, after, found := bytes.Cut(output, []byte(marker))
	if !found {
		t.Fatalf("the output lacks %q", marker)
	}
	if got := distinct(answers(before)); got != 2 {
		t.Errorf("%d servers answered, want 2", got)
	}
	// The first of these may still reach the server that drains.
	if late := answers(after); len(late) < 3 || distinct(late[len(late)-3:]) != 1 {
		t.Errorf("after one server has stopped, these answered: %q", late)
	}
}

// TestFilesAreTheQuickstarts compares the files in the README with those that init writes, which are those of
// examples/quickstart.
func TestFilesAreTheQuickstarts(t *testing.T) {
	written, err := quickstart.Project{Module: "example.com/greeter", Version: "v1.0.0"}.Files()
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, block := range section(t, "Quickstart") {
		if block.file == "" {
			continue
		}
		files++
		if want, ok := written[block.file]; !ok || block.text != want {
			t.Errorf("%s differs from examples/quickstart: the README has\n%s", block.file, block.text)
		}
	}
	if files == 0 {
		t.Error("found no files in the quickstart")
	}
}

// block is a fenced block of the README: a file's content, or commands if file is "".
type block struct{ file, text string }

var (
	heading = regexp.MustCompile(`(?m)^## (.+)$`)
	fenced  = regexp.MustCompile("(?ms)(?:^`([^`\n]+)`:\n\n)?^```(\\w+)\n(.*?)^```$")
)

// section is what the README's section of that name has in fenced blocks.
func section(t *testing.T, name string) (blocks []block) {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(readme), "\n## "+name+"\n")
	if !found {
		t.Fatalf("the README has no section %q", name)
	}
	if next := heading.FindStringIndex(text); next != nil {
		text = text[:next[0]]
	}
	for _, match := range fenced.FindAllStringSubmatch(text, -1) {
		file, language, content := match[1], match[2], match[3]
		if (file == "") != (language == "sh") {
			t.Fatalf("neither commands nor a named file: %q", match[0])
		}
		blocks = append(blocks, block{file: file, text: content})
	}
	return blocks
}

// stop stops the server that was started last.
const stop = "kill $!\n"

// marker is printed between the two runs of the client, to tell their answers apart.
const marker = "-- one server is told to stop --\n"

// shell begins the script. As in an interactive shell, a job in the background is a process group, so that killing it also
// ends what "go run" has started. When the script ends, so do the jobs; the first, etcd, is the last.
const shell = `set -meuo pipefail
trap 'for job in $(jobs -p | sort -rn); do kill -- -$job || true; wait $job || true; done' EXIT
`

// script returns the commands of the blocks.
func script(blocks []block) string {
	var b strings.Builder
	b.WriteString(shell)
	for _, block := range blocks {
		if block.file != "" {
			continue // init has written it
		}
		b.WriteString(strings.Replace(block.text, stop, "printf -- '"+strings.TrimSpace(marker)+"\\n'\n"+stop, 1))
	}
	return b.String()
}

var answer = regexp.MustCompile(`(?m)^hello, world from (\S+)$`)

// answers are the servers that answered, in order.
func answers(output []byte) (servers []string) {
	for _, match := range answer.FindAllSubmatch(output, -1) {
		servers = append(servers, string(match[1]))
	}
	return servers
}

func distinct(servers []string) int {
	seen := make(map[string]bool)
	for _, server := range servers {
		seen[server] = true
	}
	return len(seen)
}
