package election

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// Who resigns a leadership that has ended by then does not shut the door of the next one, which is another's of the same instance.
func TestResign_OfATermThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd, w := &asked{questions: make(chan chan answer)}, &told{first: First{Key: "a", Created: 5}}
		client := clientv3.NewCtxClient(t.Context())
		client.KV = etcd
		e := New(client, slog.New(slog.DiscardHandler), "", w, func() {})
		defer e.Close()
		e.heard()
		e.Stood(lease.Candidacy{Key: "a", Created: 5, Until: time.Now().Add(time.Minute)})
		<-etcd.questions <- answer{first: w.first}
		synctest.Wait()
		if term, err := e.Term(); term.Token != 5 || err != nil {
			t.Fatalf("the term is %v, %v", term, err)
		}
		if err := e.Resign(t.Context(), 4); err != nil {
			t.Error(err)
		}
		if term, err := e.Term(); term.Token != 5 || err != nil {
			t.Fatalf("the term is %v, %v", term, err)
		}
		_, done, ok := e.Enter(t.Context(), 5, true)
		if !ok {
			t.Fatal("it leads, and refuses the calls for the leader until it leads no more")
		}
		done()
	})
}
