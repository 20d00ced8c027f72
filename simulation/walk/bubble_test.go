package walk

import (
	"testing"
	"testing/synctest"
	_ "unsafe" // for linkname

	_ "go.etcd.io/etcd/client/v3" // whose variable is replaced
)

// closedLater stands for the channel by which etcd's Watcher recognises a client of its own making. It is made when the package is
// initialised, outside of any bubble, and a goroutine that waits for such a channel never counts as waiting.
//
//go:linkname valCtxCh go.etcd.io/etcd/client/v3.valCtxCh
var valCtxCh chan struct{}

// inBubble runs f in a bubble, where etcd's client works as it does outside. There must be one bubble at a time.
func inBubble(t *testing.T, f func(*testing.T)) {
	outside := valCtxCh
	synctest.Test(t, func(t *testing.T) {
		valCtxCh = make(chan struct{})
		f(t)
	})
	valCtxCh = outside // else the next watch outside would use a channel of the bubble
}
