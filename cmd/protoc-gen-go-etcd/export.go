package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/etcdrpc/protoc-gen-go-etcd/proto"
)

// export writes the options' proto file under dir, which is made if it is not there.
// A file that is there already is written anew.
func export(dir string) error {
	if dir == "" {
		return errors.New("export: DIR is empty: name a directory, . for this one")
	}
	return fs.WalkDir(proto.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(path))
		if entry.IsDir() {
			if err := os.MkdirAll(to, 0o777); err != nil {
				return fmt.Errorf("export to %s: %w", dir, err)
			}
			return nil
		}
		content, err := fs.ReadFile(proto.Files, path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, content, 0o666); err != nil {
			return fmt.Errorf("export to %s: %w", dir, err)
		}
		return nil
	})
}
