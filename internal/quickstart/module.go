package quickstart

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// CheckModule returns an error if path is not a module path, or the path of a module that could not be built with a project's
// files. It repeats the rules of CheckPath in golang.org/x/mod/module, to spare users of this module that dependency.
func CheckModule(path string) error { return grpcExample.checkModule(path) }

func (e example) checkModule(path string) error {
	if err := checkPath(path); err != nil {
		return unusable(path, err)
	}
	if err := e.checkBuilds(path); err != nil {
		return unusable(path, err)
	}
	return nil
}

func unusable(path string, err error) error {
	return fmt.Errorf("%q cannot be the path of the new module, as example.com/greeter can: %w", path, err)
}

func checkPath(path string) error {
	if path == "" {
		return errors.New("it is empty")
	}
	elements := strings.Split(path, "/")
	for _, name := range elements {
		if err := checkElement(name); err != nil {
			return err
		}
	}
	if err := checkHost(elements[0]); err != nil {
		return err
	}
	return checkMajor(path, elements[len(elements)-1])
}

// checkBuilds returns an error for the path of a module that the go command would not build.
func (e example) checkBuilds(path string) error {
	if slices.Contains(strings.Split(path, "/"), "vendor") {
		return errors.New(`below a directory "vendor" are copies of other modules`)
	}
	if strings.HasPrefix(path, Self+"/examples/") {
		return nil // each example is a module of its own
	}
	text, err := files.ReadFile(e.dir + "/go.mod" + hidden)
	if err != nil {
		return err
	}
	for _, match := range requirements.FindAllStringSubmatch(string(text), -1) {
		if required := match[1]; path == required || strings.HasPrefix(path, required+"/") {
			return fmt.Errorf("it needs the module %s, which has that path or may have packages below it", required)
		}
	}
	return nil
}

// requirements matches the modules that a go.mod requires.
var requirements = regexp.MustCompile(`(?m)^(?:require |\t)(\S+) v[0-9]`)

var element = regexp.MustCompile(`^[-.~_A-Za-z0-9]+$`)

var (
	// reserved matches the names of devices on Windows.
	reserved = regexp.MustCompile(`(?i)^(con|prn|aux|nul|com[1-9]|lpt[1-9])(\.|$)`)
	// shortened matches the short names that Windows gives to files with long names.
	shortened = regexp.MustCompile(`^[^.]*~[0-9]+(\.|$)`)
)

func checkElement(name string) error {
	switch {
	case name == "":
		return errors.New("an element between slashes is empty")
	case !element.MatchString(name):
		return fmt.Errorf("%q has a character other than letters, digits and -._~", name)
	case name[0] == '.' || name[len(name)-1] == '.':
		return fmt.Errorf("%q begins or ends with a dot", name)
	case reserved.MatchString(name), shortened.MatchString(name):
		return fmt.Errorf("%q cannot be the name of a directory on Windows", name)
	}
	return nil
}

var host = regexp.MustCompile(`^[.a-z0-9][-.a-z0-9]*$`)

func checkHost(first string) error {
	switch {
	case !strings.Contains(first, "."):
		return fmt.Errorf("%q is not a host name: it has no dot", first)
	case !host.MatchString(first):
		return fmt.Errorf("%q is not a host name: want lower-case letters, digits, dots and dashes, and no dash in front", first)
	}
	return nil
}

var (
	numeric = regexp.MustCompile(`^v[0-9.]+$`)
	major   = regexp.MustCompile(`^v([2-9]|[1-9][0-9]+)$`)
	// gopkg matches the end of paths at gopkg.in, which puts the version after a dot.
	gopkg = regexp.MustCompile(`.\.v(0|[1-9][0-9]*)(-unstable)?$`)
)

// checkMajor checks the major version at the end of a path, if there is one.
func checkMajor(path, last string) error {
	if strings.HasPrefix(path, "gopkg.in/") {
		if !gopkg.MatchString(path) {
			return errors.New("paths of gopkg.in end with .v and a number")
		}
		return nil
	}
	if path != last && numeric.MatchString(last) && !major.MatchString(last) {
		return fmt.Errorf("%q is not a major version: those are /v2, /v3 and so on", "/"+last)
	}
	return nil
}
