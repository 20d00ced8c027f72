//go:build unix

package rehearsal

import (
	"flag"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

var (
	rehearse = flag.Bool("rehearse", false, "release a clone, which takes minutes the first time")
	serve    = flag.Bool("serve", false,
		"serve the release to be tried, instead of running the commands")
)

const repository = "../.."

// newClone makes a clone of the repository, on main, with uncommitted changes
// committed and an unreleased item in the changelog.
const newClone = `
export GIT_INDEX_FILE="$to/index" # the user's index stays as it is
git read-tree HEAD && git add --all :/
commit=$(git commit-tree -p HEAD -m 'Commit the changes' "$(git write-tree)")
unset GIT_INDEX_FILE
git clone --quiet --shared --config core.hooksPath=/dev/null "$(git rev-parse --show-toplevel)" "$to/clone"
cd "$to/clone"
git checkout --quiet -B main "$commit"
list
commit
`

// versions prints the next two minor versions after all tags, and a patch of
// the second.
const versions = `
last=$(git -c versionsort.suffix=- tag --list 'v*' --sort=version:refname | tail -n 1)
IFS=. read -r major minor _ <<<"${last:-v0.0.0}"
echo "$major.$((minor + 1)).0" "$major.$((minor + 2)).0" "$major.$((minor + 2)).1"
`

// TestRehearsal releases a clone, and runs the documents' commands that fetch
// the release.
func TestRehearsal(t *testing.T) {
	if !*rehearse {
		t.Skip("takes minutes the first time: make release")
	}

	dir := t.TempDir()
	place{t, repository, []string{"to=" + dir}}.must(newClone)

	// Without GOSUMDB=off, gorelease would look up two thousand modules.
	clone := place{t, filepath.Join(dir, "clone"), []string{"GOSUMDB=off"}}
	next := strings.Fields(clone.must(versions))
	t.Log(clone.must("make release VERSION=" + next[0]))
	t.Log(clone.must("make vuln SBOM=1"))

	head := clone.must("head -n 12 CHANGELOG.md")
	if strings.Contains(head, "Nothing is tagged") ||
		!strings.Contains(head, "## ["+next[0]+"] - ") {
		t.Errorf("the changelog begins with\n%s\nwant the section of %s in it", head, next[0])
	}

	user := newUser(t, clone)

	if *serve {
		ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()

		t.Logf("%s is served until you press ^C. To fetch it as if it were published, run in another shell:\n\n%s",
			next[0], user.fetching("bash"))
		<-ctx.Done()

		return
	}

	for _, command := range commands(t) {
		t.Run(command, func(t *testing.T) { user.in(t).run(command, next[0]) })
	}

	t.Run("quickstart", func(t *testing.T) {
		u := user.in(t)
		u.follow(u.fetching(`bash -c "$script"`), quickstart(t, true))
	})

	// A module that requires others still finds them in the clone, without a
	// proxy.
	place{
		t,
		filepath.Join(clone.dir, "cmd/etcdrpc"),
		[]string{"GOPRIVATE=github.com/etcdrpc", "GOVCS=private:off"},
	}.must("../../tools/tidy -diff && go vet ./...")

	// A minor release may add to the API, or change nothing since its release
	// candidate. A patch release may not remove a function.
	clone.must(`cd runtime/statuspage; printf 'package statuspage\n\n// Rehearsed is new.\nfunc Rehearsed() {}\n' >rehearsal.go; cd ../..; list; commit`)

	for _, version := range []string{next[1] + "-rc.1", next[1]} {
		out := clone.must("make release VERSION=" + version)
		if !strings.Contains(out, "Rehearsed: added") {
			t.Errorf("the release %s prints %s, want the added function in it", version, out)
		}
	}

	clone.must("rm runtime/statuspage/rehearsal.go; list; commit")

	out, err := clone.try("make release VERSION=" + next[2])
	if err == nil || !strings.Contains(out, "Rehearsed: removed") {
		t.Errorf("the patch %s that removes a function: %v, %s; want an error that names it",
			next[2], err, out)
	}
}

// user fetches a release, with its own module cache. Before and after a test,
// newUser removes this repository's modules from the cache. The cache has the
// same path in each run, since the go command rebuilds tools whose sources have
// moved.
type user struct {
	place
	clone, cache string
}

func newUser(t *testing.T, clone place) user {
	t.Helper()

	cache, err := filepath.Abs(filepath.Join(repository, ".cache", "rehearsal", "mod"))
	if err != nil {
		t.Fatal(err)
	}

	u := user{place{t: t}, clone.dir, cache}
	forget := func() {
		for _, dir := range []string{"", "cache/download"} {
			err := os.RemoveAll(filepath.Join(cache, dir, "github.com/etcdrpc"))
			if err != nil {
				t.Error(err)
			}
		}
	}

	forget()
	t.Cleanup(forget)

	return u
}

// in returns the user in an empty directory.
func (u user) in(t *testing.T) user {
	env := []string{"GOSUMDB=off", "GOBIN=" + t.TempDir(), "TMPDIR=" + t.TempDir()}
	u.place = place{t, t.TempDir(), env}

	return u
}

// fetching returns a command that runs the given command, and makes its go
// commands fetch the release.
func (u user) fetching(command string) string {
	return tool(u.t, "from") + " '" + u.clone + "' '" + u.cache + "' " + command
}

// run runs a command of a page in a new project, and checks that the command
// gets the version.
func (u user) run(command, version string) {
	u.t.Helper()

	u.env = append(u.env, "script=set -euo pipefail\ngo run "+
		root+"/cmd/protoc-gen-go-etcd@"+version+" init example.com/greeter\n"+
		"go mod download "+root+"\n"+command+"\necho '"+marker+"'\n"+check(command))

	_, got, _ := strings.Cut(u.must(u.fetching(`bash -c "$script"`)), marker)
	if !strings.Contains(got, version) {
		u.t.Errorf("%s prints %s; want %s in it", check(command), got, version)
	}
}

// marker is printed between two steps of a script, and separates their outputs.
const marker = "-- next --"

// jobs turns job control on, as in an interactive shell: a background job is a
// process group, so that kill %1 also ends the program that "go run" started.
// At its end the script stops the jobs, the newest first, etcd last.
const jobs = `set -meuo pipefail
trap 'for job in $(jobs -p | sort -rn); do kill -- -$job || true; wait $job || true; done' EXIT
`

// follow runs the commands of a quickstart as a reader would, and checks which
// servers answer. script has the commands; command must run them as $script.
// follow returns the output after one server has stopped.
func (p place) follow(command, script string) string {
	p.t.Helper()

	if out, err := p.try("! (exec 3<>/dev/tcp/127.0.0.1/2379) 2>/dev/null"); err != nil {
		p.t.Skipf(
			"NOT REHEARSED: stop what listens on 127.0.0.1:2379, where the quickstart has etcd: %s",
			out)
	}

	script = strings.Replace(script, "bin/server &\n", "bin/server &\nfirst=$!\n", 1)
	script = strings.Replace(script, "kill $!\n", "printf -- '"+marker+"\\n'\nkill $!\n", 1)
	p.env = append(p.env, "script="+jobs+script)

	before, after, found := strings.Cut(p.must(command), marker)
	if got := distinct(answering(before)); !found || got != 2 {
		p.t.Errorf("%d servers answered, want 2", got)
	}

	// The first calls may still reach the server that is draining.
	if late := answering(after); len(late) < 3 || distinct(late[len(late)-3:]) != 1 {
		p.t.Errorf("after one server has stopped, these answered: %q; want 3 calls by one server at the end", late)
	}

	return after
}

// streaming stops the first server while a caller reads a stream of it. The
// server exits with 1 if it has to cut the stream.
const streaming = `
PATH="$PWD/bin:$PATH" buf build -o bin/schema.binpb
bin/etcdrpc call shop SayHellos '{"name": "world"}' --plaintext --schema bin/schema.binpb --timeout 5m >stream &
until grep -q hello stream; do sleep 0.1; done
kill $first
wait $first
`

// TestQuickstart runs the README's quickstart from a clone, with the caches of
// make.
func TestQuickstart(t *testing.T) {
	if !*rehearse {
		t.Skip("takes minutes the first time: make release")
	}

	dir := t.TempDir()
	place{t, repository, []string{"to=" + dir}}.must(newClone)
	reader := place{t, t.TempDir(), []string{
		"GOFLAGS=-trimpath",
		"GIT_CONFIG_COUNT=1",
		"GIT_CONFIG_KEY_0=url.file://" + dir + "/clone.insteadOf",
		"GIT_CONFIG_VALUE_0=https://" + root,
	}}
	after := reader.follow(`bash -c "$script"`, quickstart(t, false)+streaming)

	_, list, found := strings.Cut(after, "SERVICE ")
	if !found || !strings.Contains(list, "\nshop ") {
		t.Errorf("etcdrpc ls prints %s, want the service in it", after)
	}
}
