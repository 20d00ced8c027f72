//go:build unix

package endpointfile

import (
	"syscall"
	"testing"
)

func TestLoadDoesNotWaitForAPipe(t *testing.T) {
	dir, s := t.TempDir(), source("k")
	if err := syscall.Mkfifo(s.path(dir), 0o600); err != nil {
		t.Skip(err)
	}
	if got, err := Load(dir, away(s)); err == nil {
		t.Errorf("Load = %v, want an error", got)
	}
}
