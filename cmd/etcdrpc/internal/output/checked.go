package output

import (
	"fmt"
	"io"
	"sync"
)

// Checked writes to another writer, and keeps its first error. It is as safe for concurrent use as the other writer.
type Checked struct {
	to     io.Writer
	failed func() // called once, on the first error

	mu  sync.Mutex
	err error
}

// Check returns a writer to to that calls failed on the first error.
func Check(to io.Writer, failed func()) *Checked { return &Checked{to: to, failed: failed} }

// Write implements [io.Writer].
func (c *Checked) Write(text []byte) (int, error) {
	n, err := c.to.Write(text)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err == nil {
			c.err = fmt.Errorf("write the output: %w", err)
			c.failed()
		}
	}
	return n, err
}

// Err returns the first error.
func (c *Checked) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
