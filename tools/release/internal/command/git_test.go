package command

import (
	"slices"
	"strings"
	"testing"
)

// TestRepository checks that the list lacks no variable that git knows.
func TestRepository(t *testing.T) {
	out, err := Run(t.Context(), ".", nil, "git", "rev-parse", "--local-env-vars")
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(out)) {
		settings := name == "GIT_CONFIG_PARAMETERS" || name == "GIT_CONFIG_COUNT"
		if slices.Contains(repository, name) == settings {
			t.Errorf("%s: listed is %t, want %t", name, settings, !settings)
		}
	}
}
