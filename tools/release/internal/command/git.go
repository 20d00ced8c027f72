package command

import "os"

// repository names the variables with which git tells a hook of its repository, as git rev-parse --local-env-vars lists them
// but for those that hold settings.
var repository = []string{
	"GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_DIR", "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE",
	"GIT_INDEX_FILE", "GIT_INTERNAL_SUPER_PREFIX", "GIT_NO_REPLACE_OBJECTS", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX",
	"GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE",
}

// With these variables, git works in the hook's repository, in whatever directory it is run. They are dropped from the
// process, since packages that run git by themselves hand on its environment.
func init() {
	for _, name := range repository {
		_ = os.Unsetenv(name) // which fails for invalid names alone
	}
}
