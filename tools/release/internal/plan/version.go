package plan

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
)

// checkVersion returns an error if these modules cannot have the version.
func checkVersion(version string) error {
	switch {
	case version == "":
		return errors.New("there is no version: name it, as in make release VERSION=v1.2.3")
	case semver.Canonical(version) != version || module.IsPseudoVersion(version):
		return fmt.Errorf("%q is not a semantic version of the form v1.2.3 or v1.2.3-rc.1", version)
	}
	return module.CheckPathMajor(version, "")
}

// checkTags returns an error if version cannot be the next one after those that are tagged. A candidate comes after all. A
// release comes after all releases: a fix need not wait for the release that there are candidates of.
func checkTags(version string, tags []string) error {
	var errs []error
	for _, m := range modules.All {
		if tag := m.Tag(version); slices.Contains(tags, tag) {
			errs = append(errs, fmt.Errorf("the tag %s exists", tag))
		}
	}
	last := Last(tags)
	if semver.Prerelease(version) == "" {
		last = Last(slices.DeleteFunc(slices.Clone(tags), func(tag string) bool { return semver.Prerelease(path.Base(tag)) != "" }))
	}
	if len(errs) == 0 && last != "" && semver.Compare(version, last) <= 0 {
		errs = append(errs, fmt.Errorf("%s does not come after %s, the last version", version, last))
	}
	return errors.Join(errs...)
}

// CheckFetched returns an error if the tags lack the newest version that the changelog has a section for.
func CheckFetched(changelog string, tags []string) error {
	newest := released.FindStringSubmatch(changelog)
	if newest == nil || slices.Contains(tags, newest[1]) {
		return nil
	}
	return fmt.Errorf("%s has a section %s, but there is no such tag: fetch the tags: git fetch --tags", Changelog, newest[1])
}

// Last returns the highest version of any module, or "".
func Last(tags []string) (last string) {
	for _, m := range modules.All {
		for _, version := range Versions(m, tags) {
			if last == "" || semver.Compare(version, last) > 0 {
				last = version
			}
		}
	}
	return last
}

// Base returns the version whose API the next one is compared with, or "". It is the highest that is not a pre-release,
// since those promise nothing.
func Base(tags []string) (base string) {
	for _, version := range Versions(modules.All[0], tags) {
		if semver.Prerelease(version) == "" && (base == "" || semver.Compare(version, base) > 0) {
			base = version
		}
	}
	return base
}

// Versions returns the versions of a module that are tagged, in order.
func Versions(m modules.Module, tags []string) (versions []string) {
	for _, tag := range tags {
		version := tag[strings.LastIndex(tag, "/")+1:]
		if semver.Canonical(version) == version && version != "" && m.Tag(version) == tag {
			versions = append(versions, version)
		}
	}
	semver.Sort(versions)
	return versions
}
