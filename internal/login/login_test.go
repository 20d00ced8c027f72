package login

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Calls wait for one that finds out whether the token is valid. Once etcd has accepted it, they go on together.
func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Of(&clientv3.Client{Username: "u"})
		began := time.Now()
		turn := func() (time.Duration, func(error)) { return l.Turn(t.Context(), Wait, time.Second) }
		expect := func(what string, call, waited time.Duration, took time.Duration) {
			t.Helper()
			if since := time.Since(began); call != took || since != waited {
				t.Errorf("%s: the call may take %v, after %v, want %v after %v", what, call, since, took, waited)
			}
			began = time.Now()
		}
		call, done := turn()
		expect("after the login", call, 0, time.Second)
		done(nil)

		time.Sleep(trusted)
		began = time.Now()
		call, hung := turn()
		expect("a token that may have expired", call, 0, timeout)
		call, _ = turn()
		expect("beside a call that hangs", call, Wait, time.Second)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		call, _ = l.Turn(ended, Wait, time.Second)
		expect("with a context that has ended", call, 0, time.Second)
		hung(errors.New("no answer"))
		call, done = turn()
		expect("after a failure", call, 0, timeout)
		time.AfterFunc(time.Second, func() { done(nil) })
		call, other := turn()
		expect("after another call", call, time.Second, time.Second)

		l.Reconnected()
		other(nil) // an answer from before
		time.Sleep(trusted)
		began = time.Now()
		call, _ = turn()
		expect("after a reconnect", call, 0, timeout)
	})
	if call, _ := Of(&clientv3.Client{}).Turn(t.Context(), Wait, time.Second); call != time.Second {
		t.Errorf("without a password: the call may take %v, want 1s", call)
	}
}
