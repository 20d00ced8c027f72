package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/etcdrpc/protoc-gen-go-etcd/proto"
)

// export writes the options' proto file under dir. It makes dir if necessary, and overwrites a file of that name.
func export(dir string) error {
	if dir == "" {
		return errors.New("export: DIR is empty: name a directory, . for this one")
	}
	return fs.WalkDir(proto.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(path))
		var content []byte
		if entry.IsDir() {
			err = os.MkdirAll(to, 0o777)
		} else if content, err = proto.Files.ReadFile(path); err == nil {
			err = os.WriteFile(to, content, 0o666)
		}
		if err != nil {
			return fmt.Errorf("export to %s: %w", dir, err)
		}
		return nil
	})
}
