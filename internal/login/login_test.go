package login

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Calls wait for one that finds out whether the token is valid, or for a
// stream. Once etcd has accepted the token, they go on together.
func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Of(&clientv3.Client{Username: "u"})

		// turn checks how long the next call waits, and its timeout.
		turn := func(what string, waited, want time.Duration) (done func(error)) {
			t.Helper()

			began := time.Now()
			call, done := l.Turn(t.Context(), time.Second)
			took := time.Since(began)

			if call != want || took != waited {
				t.Errorf("%s: a timeout of %v after %v, want %v after %v",
					what, call, took, want, waited)
			}

			return done
		}

		turn("a new client", 0, time.Second)(nil)
		time.Sleep(trusted)

		hangs := turn("a token that may have expired", 0, callTimeout)
		turn("while a call hangs", maxWait, callTimeout)
		hangs(errors.New("no answer"))

		denied := turn("after a failure", 0, callTimeout)
		denied(rpctypes.ErrPermissionDenied)
		turn("after a refusal, which shows that the token is valid", 0, time.Second)

		before := turn("a call before a restart of etcd", 0, time.Second)
		time.Sleep(time.Second)
		l.Reconnected()
		before(nil)

		stream := l.Stream(t.Context())
		time.AfterFunc(time.Second, func() { stream(nil) })
		go turn("while a stream logs in after a reconnect", time.Second, time.Second)
		turn("another call after a reconnect", time.Second, time.Second)
		synctest.Wait()
	})

	call, _ := Of(&clientv3.Client{}).Turn(t.Context(), time.Second)
	if call != time.Second {
		t.Errorf("without a password: a timeout of %v, want 1s", call)
	}
}

// A stream does not wait long: its lease would end.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Of(&clientv3.Client{Username: "u"})
		l.Reconnected()
		l.Turn(t.Context(), time.Second)

		began := time.Now()
		l.Stream(t.Context())(errors.New("no answer"))

		if waited := time.Since(began); waited != maxStreamWait {
			t.Errorf("a stream waits %v for a call that hangs, want %v", waited, maxStreamWait)
		}
	})
}
