package main

import (
	"os"
	"testing"
)

func TestFailedCallFailsTheDemo(t *testing.T) {
	d := &demo{load: newLoad()}
	d.load.total = tally{answered: 99, failed: 1}

	if err := d.conclude(os.Stdout); err == nil {
		t.Error("conclude succeeds after a failed call, want an error")
	}
}
