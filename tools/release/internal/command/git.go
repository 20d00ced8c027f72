package command

import (
	"os"
	"os/exec"
	"strings"
)

// git tells a hook of its repository by variables. With them, git works in that repository in whatever directory it is run. They
// are dropped from the process, except those that hold settings, since packages that run git by themselves hand on its environment.
func init() {
	names, _ := exec.Command("git", "rev-parse", "--local-env-vars").Output() // without git, the first command says so
	for name := range strings.FieldsSeq(string(names)) {
		if !strings.HasPrefix(name, "GIT_CONFIG_") {
			_ = os.Unsetenv(name) // which fails for invalid names alone
		}
	}
}
