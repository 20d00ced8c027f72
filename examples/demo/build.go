package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// build generates the quickstart's code with the commands of its README, and compiles its server into dir.
func build(ctx context.Context, out io.Writer, quickstart, dir string) (binary string, err error) {
	binary, err = filepath.Abs(filepath.Join(dir, "server"))
	if err != nil {
		return "", err
	}
	for _, command := range [][]string{
		{"go", "tool", "protoc-gen-go-etcd", "--version"}, // builds the plugin
		{"go", "tool", "-modfile=tools/go.mod", "buf", "generate"},
		{"go", "build", "-o", binary, "./server"},
	} {
		start := time.Now()
		fmt.Fprintf(out, "%s$ %s", filepath.Base(quickstart), strings.Join(command, " "))
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Dir = quickstart
		output, err := cmd.CombinedOutput()
		if err != nil {
			fmt.Fprintln(out)
			return "", fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, output)
		}
		fmt.Fprintf(out, "   # took %.1f s\n", time.Since(start).Seconds())
	}
	return binary, nil
}
