package plan

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
)

// A Change is one of the exported API.
type Change struct {
	Text       string
	Compatible bool // whether what compiled before still does
}

// CheckAPI reports why a version may not follow another with these changes of the API.
func CheckAPI(base, version string, changes []Change) error {
	if base == "" {
		return nil
	}
	core := strings.TrimSuffix(version, semver.Prerelease(version))
	if lowest := Lowest(base, changes); semver.Compare(core, lowest) < 0 {
		return fmt.Errorf("the API has changed since %s, so %s would have to be %s or later:\n%s", base, version, lowest, List(changes))
	}
	return nil
}

// Lowest returns the lowest version that may follow a version with these changes: what is fixed needs a new patch
// version, what is added a new minor one, and what is not compatible a new major one, before v1 a minor one.
func Lowest(base string, changes []Change) string {
	part := [3]int{}
	for i, text := range strings.Split(strings.TrimPrefix(base, "v"), ".") {
		part[i], _ = strconv.Atoi(text) // base is a semantic version and no pre-release
	}
	switch {
	case len(changes) == 0:
		part[2]++
	case part[0] == 0 || Compatible(changes):
		part = [3]int{part[0], part[1] + 1, 0}
	default:
		part = [3]int{part[0] + 1, 0, 0}
	}
	return fmt.Sprintf("v%d.%d.%d", part[0], part[1], part[2])
}

// Compatible reports whether all changes are.
func Compatible(changes []Change) bool {
	for _, c := range changes {
		if !c.Compatible {
			return false
		}
	}
	return true
}

// List returns the changes as text, what is not compatible first.
func List(changes []Change) string {
	var b strings.Builder
	for _, compatible := range []bool{false, true} {
		title := map[bool]string{false: "not compatible:", true: "compatible:"}[compatible]
		for _, c := range changes {
			if c.Compatible == compatible {
				fmt.Fprintf(&b, "  %s %s\n", title, c.Text)
			}
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// Summary says what has changed since a version and what that asks of the next one.
func Summary(base string, changes []Change) string {
	if len(changes) == 0 {
		return "The API is that of " + base + "."
	}
	return fmt.Sprintf("The API has changed since %s, so the next version is at least %s:\n%s", base, Lowest(base, changes), List(changes))
}
