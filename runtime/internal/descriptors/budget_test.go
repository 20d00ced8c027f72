package descriptors

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// hearing is a Holder that passes on what it hears.
type hearing chan string

func (h hearing) Dial()    { h <- "dial" }
func (h hearing) Refuse()  { h <- "refuse" }
func (h hearing) Reclaim() { h <- "reclaim" }

func (h hearing) want(t *testing.T, what string) {
	t.Helper()
	select {
	case got := <-h:
		if got != what {
			t.Errorf("heard %q, want %q", got, what)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("never heard %q", what)
	}
}

func TestBudget(t *testing.T) {
	now := time.Now()
	logged := 0
	b := NewBudget(0, errors.New("full"), func(missed int) { logged += 1 + missed })
	heard := make(hearing, 9)
	first, second, third := b.NewShare().NewPlace(heard, 1), b.NewShare().NewPlace(heard, 1), b.NewShare().NewPlace(heard, 1)
	if got := first.Want(false, now); got != Held || b.Report(now) != nil || b.Err().Error() != "full" {
		t.Errorf("the first: %v", got)
	}
	first.Leave(now)
	if got := second.Want(false, now); got != Waiting || second.Outcome() != Waiting {
		t.Errorf("one for whom another is asked back: %v", got)
	}
	heard.want(t, "reclaim")
	first.Join(now)
	heard.want(t, "refuse")
	if got := second.Want(false, now); got != Refused || second.Outcome() != Refused {
		t.Errorf("one for whom there is none: %v", got)
	}
	b.Report(now)()
	if third.Want(true, now); b.Report(now) != nil || logged != 1 {
		t.Errorf("%d lines are logged", logged)
	}
	first.Opened(now.Add(-time.Hour))
	first.Ended(now.Add(50*time.Millisecond - grace)) // it lapses soon
	heard.want(t, "dial")
	second.Failed(now)
	heard.want(t, "dial")
	third.Release(now)
	if len(heard) > 0 {
		t.Errorf("heard %q as well", <-heard)
	}
}

func TestS11_TheBoundIsNotLoggedWithoutEnd(t *testing.T) {
	b := NewBudget(1, nil, func(int) {})
	heard := make(hearing, 1000)
	share := b.NewShare()
	first, second := share.NewPlace(heard, 1), share.NewPlace(heard, 1)
	now, lines := time.Now(), 0
	for range 100 {
		first.Want(false, now)
		second.Want(false, now)
		if b.Report(now) != nil {
			lines++
		}
		first.Failed(now)
		second.Failed(now)
	}
	if lines != 5 {
		t.Errorf("%d lines", lines)
	}
}

func TestPlacesOfNoBudget(t *testing.T) {
	var b *Budget
	p := b.NewShare().NewPlace(nil, 1)
	now := time.Now()
	for range 2 {
		if p.Want(false, now) != Held || p.Outcome() != Held {
			t.Error("it is bounded")
		}
		p.Opened(now)
		p.Ended(now)
		p.Failed(now)
		p.Leave(now)
		p.Join(now)
		p.Release(now)
	}
}

func TestCost(t *testing.T) {
	for addresses, want := range map[string]int{
		"10.0.0.1:80": 1, "[::1]:80": 1, "10.0.0.1:80 10.0.0.2:80": 1, "a.example:80": 2, "10.0.0.1:80 a.example:80": 2, "unix:/run/x": 2, "x": 2,
	} {
		if got := Cost(strings.Fields(addresses)...); got != want {
			t.Errorf("%s: %d, want %d", addresses, got, want)
		}
	}
}

func TestLimit(t *testing.T) {
	for limit, want := range map[int]int{-1: 16, 0: 16, 63: 16, 68: 17, 512: 128, unlimited: 262144} {
		if got := OfOneService(limit); got != want {
			t.Errorf("of %d: %d, want %d", limit, got, want)
		}
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if limit := Limit(); limit > unlimited || uintptr(limit) <= f.Fd() {
		t.Errorf("the limit is %d and descriptor %d is open", limit, f.Fd())
	}
}
