package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// minBuf is the first version of buf that reads the buf.yaml and buf.gen.yaml which init writes: their version is v2.
var minBuf = [2]int{1, 32}

// bufOnPath returns the version of the buf on the PATH, "" if there is none, or none that is new enough or says its version.
func bufOnPath() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "buf", "--version")
	cmd.WaitDelay = time.Second // it may be a script, whose children hold the output open
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	version := strings.TrimSpace(string(out))
	var got [2]int
	if _, err := fmt.Sscanf(version, "%d.%d.", &got[0], &got[1]); err != nil {
		return ""
	}
	if slices.Compare(got[:], minBuf[:]) < 0 {
		return ""
	}
	return version
}
