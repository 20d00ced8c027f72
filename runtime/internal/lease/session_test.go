package lease

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease/reconcile"
)

// A key that is deleted every second causes few lines: the last loss that is
// logged has its return logged, too. Other changes of state are all logged,
// with the key.
func TestLogChange_IsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := New(nil, Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
		defer s.cancel()

		h := &Handle{}
		lines := map[State]int{}
		change := func(from, to State) {
			out.Reset()
			s.logChange(reconcile.Change{Owner: h, From: from, Status: Status{Key: "a", State: to}})
			lines[to] += strings.Count(out.String(), "key=a ")
		}

		change(Registering, Registered)

		for range 300 {
			time.Sleep(time.Second)
			change(Registered, Lost)
			change(Lost, Registered)

			if lines[Registered] != 1+lines[Lost] {
				t.Fatalf("%d losses and %d returns are logged, want as many", lines[Lost],
					lines[Registered]-1)
			}
		}

		if lines[Lost] < 5 || lines[Lost] > 35 {
			t.Errorf("%d of 300 losses are logged, want 5 at once and then one in 10 s",
				lines[Lost])
		}

		change(Registered, Lost)
		change(Lost, Paused)
		change(Paused, Registering)
		change(Registering, Registered)
		change(Registered, Conflict)
		change(Conflict, Closed)

		got := fmt.Sprint(lines[Paused], lines[Registering], lines[Registered]-1-lines[Lost],
			lines[Conflict], lines[Closed])

		want := "1 1 1 1 1"
		if got != want {
			t.Errorf("%s lines of other changes, want %s", got, want)
		}
	})
}
