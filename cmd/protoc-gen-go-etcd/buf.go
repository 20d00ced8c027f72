package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// minBuf is the first version of buf that reads version v2 of buf.yaml and buf.gen.yaml, which init writes.
var minBuf = [2]int{1, 32}

// bufOnPath returns the version of the buf on the PATH, "" if there is none, it is too old, or it prints no version.
func bufOnPath() string {
	version := output("buf", "--version")
	var got [2]int
	if _, err := fmt.Sscanf(version, "%d.%d.", &got[0], &got[1]); err != nil || slices.Compare(got[:], minBuf[:]) < 0 {
		return ""
	}
	return version
}

// output returns what a command on the PATH prints, "" if it fails.
func output(name string, args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the names are ours
	cmd.WaitDelay = time.Second                    // it may be a script, whose children keep the output open
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
