package discovery

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	repository   = "../.."
	securityPage = repository + "/docs/security.md"
)

func text(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(securityPage)
	must(t, err)
	return string(raw)
}

// command is one etcdctl command of the page that makes a role or a user.
type command []string

// commands returns those of the page, in their order. Root and its authentication are etcdtest's.
func commands(t *testing.T) (all []command) {
	t.Helper()
	for _, line := range regexp.MustCompile(`(?m)^etcdctl ((?:role|user) .+)$`).FindAllStringSubmatch(text(t), -1) {
		if c := command(strings.Fields(line[1])); !slices.Contains(c, "root") {
			all = append(all, c)
		}
	}
	return all
}

var kinds = map[string]clientv3.PermissionType{
	"read":      clientv3.PermissionType(clientv3.PermRead),
	"write":     clientv3.PermissionType(clientv3.PermWrite),
	"readwrite": clientv3.PermissionType(clientv3.PermReadWrite),
}

// run does what etcdctl does.
func (c command) run(ctx context.Context, admin *clientv3.Client) (err error) {
	args := slices.DeleteFunc(slices.Clone(c[2:]), func(arg string) bool { return strings.HasPrefix(arg, "--") })
	flag := func(name string) bool {
		return slices.ContainsFunc(c, func(arg string) bool { return strings.HasPrefix(arg, name) })
	}
	switch what := c[0] + " " + c[1]; {
	case what == "role add" && len(args) == 1:
		_, err = admin.RoleAdd(ctx, args[0])
	case what == "role grant-permission" && len(args) == 3 && flag("--prefix=true"):
		_, err = admin.RoleGrantPermission(ctx, args[0], args[2], clientv3.GetPrefixRangeEnd(args[2]), kinds[args[1]])
	case what == "role grant-permission" && len(args) == 3:
		_, err = admin.RoleGrantPermission(ctx, args[0], args[2], "", kinds[args[1]])
	case what == "role grant-permission" && len(args) == 4 && !flag("--prefix"):
		_, err = admin.RoleGrantPermission(ctx, args[0], args[2], args[3], kinds[args[1]])
	case what == "user add" && len(args) == 1 && flag("--new-user-password="):
		_, err = admin.UserAdd(ctx, args[0], "secret")
	case what == "user grant-role" && len(args) == 2:
		_, err = admin.UserGrantRole(ctx, args[0], args[1])
	default:
		err = fmt.Errorf("this test does not know the command")
	}
	if err != nil {
		return fmt.Errorf("etcdctl %s: %w", strings.Join(c, " "), err)
	}
	return nil
}

// sources returns the text of the test files below dir.
func sources(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		all.Write(raw)
		return err
	}))
	return all.String()
}

func tests(source string) (names []string) {
	for _, match := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(source, -1) {
		names = append(names, match[1])
	}
	return names
}

// TestEachRoleIsTried finds a role that the page makes and no test takes.
func TestEachRoleIsTried(t *testing.T) {
	source := sources(t, ".")
	tried := 0
	for _, c := range commands(t) {
		if c[0] == "role" && c[1] == "add" {
			tried++
			if !strings.Contains(source, fmt.Sprintf("%q", c[2])) {
				t.Errorf("the role %s of the page is tried nowhere", c[2])
			}
		}
	}
	if tried == 0 {
		t.Error("found no role in the page")
	}
}

// TestEachRightIsOnThePage looks for the names of the tests that are about rights.
func TestEachRightIsOnThePage(t *testing.T) {
	page := text(t)
	for _, name := range tests(sources(t, ".")) {
		right := regexp.MustCompile(`^Test(KeyWriter|ConfigWriter|Reader|AnyUser|Nobody|S9)`).MatchString(name)
		if right && !strings.Contains(page, "`"+name+"`") {
			t.Errorf("the page does not name %s", name)
		}
	}
}
