package plan

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
)

// A Change is a difference between two versions of the exported API.
type Change struct {
	Text       string
	Compatible bool // whether what compiled before still does
}

// CheckAPI returns an error if version is too low to follow base with these changes of the API.
func CheckAPI(base, version string, changes []Change) error {
	if base == "" {
		return nil
	}
	core := strings.TrimSuffix(version, semver.Prerelease(version))
	if lowest := Lowest(base, changes); semver.Compare(core, lowest) < 0 {
		return fmt.Errorf("the API has changed since %s, so %s would have to be %s or later:\n%s", base, version, lowest, list(changes))
	}
	return nil
}

// Lowest returns the lowest version that may follow base with these changes: the next major version if one of them is
// incompatible, the next minor version if there are others, or else the next patch version. Before v1, incompatible
// changes take a minor version, too.
func Lowest(base string, changes []Change) string {
	part := [3]int{}
	for i, text := range strings.Split(strings.TrimPrefix(base, "v"), ".") {
		part[i], _ = strconv.Atoi(text) // base is a semantic version and no pre-release
	}
	switch {
	case len(changes) == 0:
		part[2]++
	case part[0] == 0 || compatible(changes):
		part = [3]int{part[0], part[1] + 1, 0}
	default:
		part = [3]int{part[0] + 1, 0, 0}
	}
	return fmt.Sprintf("v%d.%d.%d", part[0], part[1], part[2])
}

// compatible reports whether all changes are.
func compatible(changes []Change) bool {
	for _, c := range changes {
		if !c.Compatible {
			return false
		}
	}
	return true
}

// list returns the changes as text, the incompatible ones first.
func list(changes []Change) string {
	var b strings.Builder
	for _, ok := range []bool{false, true} {
		title := map[bool]string{false: "not compatible:", true: "compatible:"}[ok]
		for _, c := range changes {
			if c.Compatible == ok {
				fmt.Fprintf(&b, "  %s %s\n", title, c.Text)
			}
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// Summary describes the changes since base, and the lowest version that may follow.
func Summary(base string, changes []Change) string {
	if len(changes) == 0 {
		return "The API is that of " + base + "."
	}
	return fmt.Sprintf("The API has changed since %s, so the next version is at least %s:\n%s", base, Lowest(base, changes), list(changes))
}
