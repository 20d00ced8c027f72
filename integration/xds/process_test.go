package xds

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
)

// processCaller is a client in another process, which reads orders from its
// standard input and writes an outcome for each.
type processCaller struct {
	t      *testing.T
	orders io.Writer
	out    *bufio.Reader
	errors *strings.Builder
	wait   func() error
}

// process returns an xDS client in a zone: of grpc-js, or of gRPC for Python.
func (w *world) process(zone string, command ...string) caller {
	w.t.Helper()

	cmd := exec.Command(command[0], append(command[1:], "xds:///"+w.desc.Authority)...)
	cmd.Env = append(os.Environ(), "GRPC_XDS_BOOTSTRAP_CONFIG="+w.bootstrap(zone))
	c := &processCaller{t: w.t, errors: new(strings.Builder)}
	cmd.Stderr = c.errors
	in, err := cmd.StdinPipe()
	kit.Must(w.t, err)
	out, err := cmd.StdoutPipe()
	kit.Must(w.t, err)
	c.orders = in
	c.out = bufio.NewReader(out)
	c.wait = sync.OnceValue(cmd.Wait)
	kit.Must(w.t, cmd.Start())

	w.t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails if the process has ended
		_ = c.wait()

		if w.t.Failed() {
			w.t.Logf("the client's stderr: %s", c.errors)
		}
	})

	return c
}

func (c *processCaller) call(o order) (out outcome) {
	c.t.Helper()

	kit.Must(c.t, json.NewEncoder(c.orders).Encode(o))

	line, err := c.out.ReadBytes('\n')
	if err != nil {
		c.t.Fatalf("read an outcome of the client: %v; the process ended with %v\n%s", err,
			c.wait(), c.errors)
	}

	kit.Must(c.t, json.Unmarshal(line, &out))

	return out
}
