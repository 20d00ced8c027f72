package plan

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
)

// ready is a state that may be released.
func ready() State {
	s := State{Branch: Branch, Files: map[string]string{Changelog: "# Changelog\n\n## Unreleased\n\n- A thing.\n"}}
	for _, m := range modules.All {
		s.Files[m.File("go.mod")] = "module " + m.Path() + "\n"
	}
	return s
}

func TestVersions(t *testing.T) {
	tests := []struct {
		version string
		tags    []string
		want    string // the error, "" for none
	}{
		{"v0.1.0", nil, ""},
		{"v1.0.0-rc.1", nil, ""},
		{"v1.0.0", []string{"v1.0.0-rc.1"}, ""},
		{"v1.0.0", []string{"v0.9.0", "etcdtest/v0.9.0", "other/v3.0.0", "v0.9", "vim"}, ""},
		{"v0.10.0", []string{"v0.9.0"}, ""},
		{"", nil, "there is no version"},
		{"v1.2", nil, `"v1.2" is not a semantic version`},
		{"1.2.3", nil, `"1.2.3" is not a semantic version`},
		{"v1.2.3+meta", nil, `"v1.2.3+meta" is not a semantic version`},
		{"v1.2.4-0.20261121083600-d1244f2a58a1", nil, "is not a semantic version"},
		{"v2.0.0", nil, "should be v0 or v1, not v2"},
		{"v0.1.0", []string{"v0.1.0", "cmd/etcdrpc/v0.1.0"}, "the tag v0.1.0 exists\nthe tag cmd/etcdrpc/v0.1.0 exists"},
		{"v0.1.0", []string{"outlierdetection/v0.1.0"}, "the tag outlierdetection/v0.1.0 exists"},
		{"v0.2.0", []string{"v0.10.0"}, "v0.2.0 does not come after v0.10.0"},
		{"v0.2.0", []string{"etcdtest/v0.3.0"}, "v0.2.0 does not come after v0.3.0"},
		{"v0.2.0-rc.1", []string{"v0.2.0"}, "v0.2.0-rc.1 does not come after v0.2.0"},
		{"v0.1.1", []string{"v0.1.0", "v0.2.0-rc.1", "etcdtest/v0.2.0-rc.2"}, ""},
		{"v0.1.0", []string{"v0.1.1", "v0.2.0-rc.1"}, "v0.1.0 does not come after v0.1.1"},
		{"v0.1.1-rc.1", []string{"v0.1.0", "v0.2.0-rc.1"}, "v0.1.1-rc.1 does not come after v0.2.0-rc.1"},
	}
	for _, tt := range tests {
		state := ready()
		state.Tags = tt.tags
		p, err := New(state, tt.version, time.Now())
		wantError(t, tt.version, err, tt.want)
		if (p == nil) != (err != nil) {
			t.Errorf("%s: %v and %v", tt.version, p, err)
		}
	}
}

func wantError(t *testing.T, name string, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v; want %q", name, err, want)
	}
}

// TestEveryFaultIsNamed checks that one try shows all that is in the way.
func TestEveryFaultIsNamed(t *testing.T) {
	state := ready()
	state.Branch, state.Dirty = "topic", []string{"?? note"}
	state.Files[Changelog] = "# Changelog\n"
	state.Files["etcdtest/go.mod"] += "\nreplace example.com/a => ../b\n"
	_, err := New(state, "v1", time.Now())
	for _, want := range []string{
		`"v1" is not a semantic version`, "the branch is topic", "?? note", `CHANGELOG.md has no line "## Unreleased"`,
		"etcdtest/go.mod has a replace directive",
	} {
		wantError(t, "all at once", err, want)
	}
}

func TestPlan(t *testing.T) {
	state := ready()
	state.Tags = []string{"v0.1.0", "v0.2.0-rc.1"}
	const gomod = "cmd/etcdrpc/go.mod"
	state.Files[gomod] += "\ngo 1.26.0\n\nrequire (\n\t" + modules.Root + " v0.1.0\n\t" + modules.Root + "/etcdtest v0.0.0\n\texample.com/a v1.0.0\n)\n"
	p, err := New(state, "v0.2.0", time.Date(2026, 11, 21, 23, 30, 0, 0, time.FixedZone("", -3600)))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(p.Files)), []string{Changelog, gomod}; !slices.Equal(got, want) {
		t.Errorf("it changes %q, want %q", got, want)
	}
	if want := strings.NewReplacer("etcd v0.1.0", "etcd v0.2.0", "etcdtest v0.0.0", "etcdtest v0.2.0").Replace(state.Files[gomod]); p.Files[gomod] != want {
		t.Errorf("go.mod is\n%s", p.Files[gomod])
	}
	if !strings.Contains(p.Files[Changelog], "## [v0.2.0] - 2026-11-22\n") { // in UTC
		t.Errorf("the changelog is\n%s", p.Files[Changelog])
	}
	if len(p.Pinned) != 1 || p.Pinned[0].Dir != "cmd/etcdrpc" || p.Base != "v0.1.0" {
		t.Errorf("pinned are %v, and the base is %s", p.Pinned, p.Base)
	}
	// The root's tag is the last to be pushed.
	push := p.Push("upstream")
	if len(push) != 2 || push[1] != "git push upstream refs/tags/v0.2.0" || strings.Contains(push[0], "refs/tags/v0.2.0") {
		t.Errorf("to push: %q", push)
	}
	for _, m := range modules.All[1:] {
		if !strings.Contains(push[0], " refs/tags/"+m.Dir+"/v0.2.0") {
			t.Errorf("%q lacks the tag of %s", push[0], m.Dir)
		}
	}
}

// What the changelog says of the time before all releases is not in the first.
func TestRoll_OfTheRepository(t *testing.T) {
	text, err := os.ReadFile("../../../../" + Changelog)
	if err != nil {
		t.Fatal(err)
	}
	if rolled, err := roll(string(text), "v99.0.0", "D"); err == nil && strings.Contains(rolled, "is tagged yet") {
		t.Errorf("the changelog would begin with\n%.400s", rolled)
	}
}

func TestRoll(t *testing.T) {
	const link = "[v1.0.0]: https://" + modules.Root + "/releases/tag/v1.0.0\n"
	tests := []struct{ name, text, want, err string }{
		{
			"the first",
			"# Changelog\n\n## Unreleased\n\nNothing is tagged yet.\n\nThis is the first.\n\n### Added\n\n- A.\n",
			"# Changelog\n\n## Unreleased\n\n## [v1.0.0] - D\n\nThis is the first.\n\n### Added\n\n- A.\n\n" + link, "",
		},
		{
			"a later one",
			"## Unreleased\n\n- B.\n\n## [v0.9.0] - 2025-01-01\n\n- A.\n\n[v0.9.0]: x\n",
			"## Unreleased\n\n## [v1.0.0] - D\n\n- B.\n\n## [v0.9.0] - 2025-01-01\n\n- A.\n\n" + link + "[v0.9.0]: x\n", "",
		},
		{"nothing", "## Unreleased\n", "", "lists nothing"},
		{"headings alone", "## Unreleased\n\n### Added\n\n### Fixed\n", "", "lists nothing"},
		{"the next section's", "## Unreleased\n\n## [v0.9.0] - 2025-01-01\n\n- A.\n", "", "lists nothing"},
		{"an empty item", "## Unreleased\n\n- \n-\n", "", "lists nothing"},
		{"definitions alone", "## Unreleased\n\n[v0.9.0]: x\n", "", "lists nothing"},
		{
			"after its candidates",
			"## Unreleased\n\n## [v1.0.0-rc.1] - 2025-01-01\n\n- A.\n\n[v1.0.0-rc.1]: x\n",
			"## Unreleased\n\n## [v1.0.0] - D\n\nThe changes are those of its candidates, below.\n\n## [v1.0.0-rc.1] - 2025-01-01\n\n- A.\n\n" +
				link + "[v1.0.0-rc.1]: x\n", "",
		},
		{"after another's candidates", "## Unreleased\n\n## [v1.1.0-rc.1] - 2025-01-01\n\n- A.\n", "", "lists nothing"},
		{"carriage returns", "## Unreleased\r\n\r\n- A.\r\n", "", `lines that end in \r\n`},
		{"no section", "# Changelog\n\n- A.\n", "", `no line "## Unreleased"`},
		{"another heading", "# Changelog\n\n### Unreleased\n\n- A.\n", "", `no line "## Unreleased"`},
		{"a section of the version", "## Unreleased\n\n- B.\n\n## [v1.0.0] - 2025-01-01\n\n- A.\n", "", "has a section v1.0.0 already"},
	}
	for _, tt := range tests {
		got, err := roll(tt.text, "v1.0.0", "D")
		wantError(t, tt.name, err, tt.err)
		if got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}
