package quickstart

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// CheckEmpty returns an error if a directory holds anything but a .git.
func CheckEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(entry os.DirEntry) bool { return entry.Name() == ".git" })
	switch len(entries) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("the directory has %q: it must be empty, but for .git", entries[0].Name())
	default:
		return fmt.Errorf("the directory has %q and %d more: it must be empty, but for .git", entries[0].Name(), len(entries)-1)
	}
}

// Write writes files under a directory. It never overwrites a file. If it fails, it removes the files that it has written.
func Write(dir string, files map[string]string) error {
	var written []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		made, err := write(dir, name, files[name])
		written = append(written, made...)
		if err != nil {
			for _, path := range slices.Backward(written) {
				_ = os.Remove(path) // keep the first error
			}
			return err
		}
	}
	return nil
}

// write writes one file. It returns the directories and the file that it has created, even if it fails.
func write(dir, name, text string) (made []string, err error) {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if made, err = makeDirs(filepath.Dir(path)); err != nil {
		return made, err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return made, err
	}
	made = append(made, path)
	if _, err := file.WriteString(text); err != nil {
		file.Close()
		return made, err
	}
	return made, file.Close()
}

// makeDirs makes a directory and its parents. It returns the created ones, the outermost first.
func makeDirs(dir string) (made []string, err error) {
	for missing := dir; ; missing = filepath.Dir(missing) {
		if _, err := os.Stat(missing); err == nil {
			break
		} else if !os.IsNotExist(err) {
			return nil, err
		}
		made = append(made, missing)
	}
	slices.Reverse(made)
	for i, dir := range made {
		if err := os.Mkdir(dir, 0o777); err != nil {
			return made[:i], err
		}
	}
	return made, nil
}
