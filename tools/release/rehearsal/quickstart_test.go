//go:build unix

package rehearsal

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	heading = regexp.MustCompile(`(?m)^## `)
	shell   = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")
)

// quickstart returns the commands of the README's quickstart.
func quickstart(t *testing.T) string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(readme), "\n## Quickstart\n")
	if !found {
		t.Fatal("the README has no quickstart")
	}
	if end := heading.FindStringIndex(section); end != nil {
		section = section[:end[0]]
	}
	commands := ""
	for _, block := range shell.FindAllStringSubmatch(section, -1) {
		commands += block[1]
	}
	return commands
}

// marker is printed before a server is stopped, to tell the answers before and after apart.
const marker = "-- one server is told to stop --"

// jobs turns job control on, as in an interactive shell: a background job is a process group, so that kill %1 also ends the
// program that "go run" started. When the script ends, it stops the jobs, the first of them, etcd, last.
const jobs = `set -meuo pipefail
trap 'for job in $(jobs -p | sort -rn); do kill -- -$job || true; wait $job || true; done' EXIT
`

// runQuickstart runs the README's quickstart in an empty directory, as a reader would.
func (r *released) runQuickstart(t *testing.T) {
	skipIfTaken(t, "127.0.0.1:2379") // where the README has etcd
	script := strings.Replace(quickstart(t), "kill $!\n", "printf -- '"+marker+"\\n'\nkill $!\n", 1)
	before, after, found := strings.Cut(r.script(t, t.TempDir(), jobs+script), marker)
	if !found {
		t.Fatalf("the output lacks %q", marker)
	}
	if got := distinct(answers(before)); got != 2 {
		t.Errorf("%d servers answered, want 2", got)
	}
	// The first calls may still reach the server that is draining.
	if late := answers(after); len(late) < 3 || distinct(late[len(late)-3:]) != 1 {
		t.Errorf("after one server has stopped, these answered: %q", late)
	}
}

// skipIfTaken skips the test if something listens on addr already.
func skipIfTaken(t *testing.T, addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("NOT REHEARSED: the quickstart needs %s, so stop what listens there: %v", addr, err)
	}
	listener.Close()
}

var answer = regexp.MustCompile(`(?m)^hello, world from (\S+)$`)

// answers returns the servers that answered, in order.
func answers(output string) (servers []string) {
	for _, match := range answer.FindAllStringSubmatch(output, -1) {
		servers = append(servers, match[1])
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
