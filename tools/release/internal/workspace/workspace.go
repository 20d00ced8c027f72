// Package workspace runs the go command in modules that may find others by a go.work, and tidies them.
package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/command"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
)

// Env returns an environment in which the go command uses the go.work in dir, if there is one, and none of a directory above.
func Env(dir string) ([]string, error) {
	file, err := filepath.Abs(filepath.Join(dir, "go.work"))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return []string{"GOWORK=off"}, nil
	} else if err != nil {
		return nil, err
	}
	return []string{"GOWORK=" + file}, nil
}

// Tidy returns the tidy go.mod and go.sum of the module in dir, by file name. Since go mod tidy ignores go.work and would
// fetch the modules that are replaced there, it is given a go.mod that replaces them.
func Tidy(ctx context.Context, dir string) (map[string][]byte, error) {
	work, err := readWork(filepath.Join(dir, "go.work"))
	if err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp("", "tidy")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	files, err := read(dir)
	if err != nil {
		return nil, err
	}
	replaced, err := replace(files["go.mod"], work)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(temp, "go.mod"), replaced, 0o600),
		os.WriteFile(filepath.Join(temp, "go.sum"), files["go.sum"], 0o600),
	); err != nil {
		return nil, err
	}
	if _, err := command.Run(ctx, dir, []string{"GOWORK=off"}, "go", "mod", "tidy", "-modfile="+filepath.Join(temp, "go.mod")); err != nil {
		return nil, err
	}
	tidied, err := read(temp)
	if err != nil {
		return nil, err
	}
	if tidied["go.mod"], err = unreplace(tidied["go.mod"], files["go.mod"]); err != nil {
		return nil, err
	}
	tidied["go.sum"] = keepOwn(tidied["go.sum"], files["go.sum"])
	return tidied, nil
}

// readWork returns a go.work, or one without replacements if the file does not exist.
func readWork(file string) (*modfile.WorkFile, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return new(modfile.WorkFile), nil
	} else if err != nil {
		return nil, err
	}
	return modfile.ParseWork(file, text, nil)
}

func read(dir string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		files[name] = text
	}
	return files, nil
}

// replace adds the replacements of go.work to go.mod.
func replace(gomod []byte, work *modfile.WorkFile) ([]byte, error) {
	file, err := modfile.Parse("go.mod", gomod, nil)
	if err != nil {
		return nil, err
	}
	for _, r := range work.Replace {
		if err := file.AddReplace(r.Old.Path, r.Old.Version, r.New.Path, r.New.Version); err != nil {
			return nil, fmt.Errorf("replace %s: %w", r.Old.Path, err)
		}
	}
	return file.Format()
}

// unreplace drops the replacements that the original does not have.
func unreplace(gomod, original []byte) ([]byte, error) {
	file, err := modfile.Parse("go.mod", gomod, nil)
	if err != nil {
		return nil, err
	}
	before, err := modfile.Parse("go.mod", original, nil)
	if err != nil {
		return nil, err
	}
	for _, r := range slices.Clone(file.Replace) {
		kept := slices.ContainsFunc(before.Replace, func(b *modfile.Replace) bool { return b.Old == r.Old })
		if kept {
			continue
		}
		if err := file.DropReplace(r.Old.Path, r.Old.Version); err != nil {
			return nil, err
		}
	}
	file.Cleanup()
	return file.Format()
}

// keepOwn adds the checksums of this repository's modules, which go mod tidy removes while they are replaced.
func keepOwn(gosum, original []byte) []byte {
	lines := splitLines(gosum)
	for _, line := range splitLines(original) {
		path, _, _ := bytes.Cut(line, []byte(" "))
		if _, own := modules.ByPath(string(path)); own && !slices.ContainsFunc(lines, func(l []byte) bool { return bytes.Equal(l, line) }) {
			lines = append(lines, line)
		}
	}
	slices.SortStableFunc(lines, func(a, b []byte) int { return strings.Compare(firstField(a), firstField(b)) })
	return bytes.Join(lines, nil)
}

func splitLines(text []byte) [][]byte { return slices.Collect(bytes.Lines(text)) }

func firstField(line []byte) string {
	field, _, _ := strings.Cut(string(line), " ")
	return field
}
