package descriptors

import (
	"errors"
	"os"
	"testing"
	"time"
)

func TestS4_PlacesAreSharedOut(t *testing.T) {
	logged, now := 0, time.Now()
	b := NewBudget(2, errors.New("full"), func(missed int) { logged += 1 + missed })
	given := ""
	share := b.NewShare()
	place := func(s *Share, name string) *Place { return s.NewPlace(func() { given += name }) }
	a, c, d, e := place(share, "a"), place(share, "c"), place(share, "d"), place(share, "e")
	_ = a.Take(false) // it may ask again
	if !a.Take(false) || !c.Take(false) || b.Report(now) != nil || b.Err().Error() != "full" || b.Limit() != 2 {
		t.Error("the first two have no places")
	}
	if d.Take(false) || e.Take(false) {
		t.Error("there are more than two")
	}
	b.Report(now)()
	if b.Report(now) != nil || logged != 1 {
		t.Errorf("%d lines are logged", logged)
	}
	other := place(b.NewShare(), "o")
	if !other.Take(false) {
		t.Error("one that holds none is refused its first")
	}
	other.Give()
	if given != "" {
		t.Errorf("%s are given a place beyond the bound", given)
	}
	a.Give()
	a.Take(false)
	a.Take(true) // a call names it
	c.Give()
	if given != "da" {
		t.Errorf("given to %q in this order, want who has waited longest, then who is urgent", given)
	}
	e.Give() // it waits no longer
	d.Give()
	d.Give()
	if given != "da" || b.used != 1 || share.held != 1 {
		t.Errorf("given to %q, %d used", given, b.used)
	}
	_, _, _ = c.Take(false), d.Take(false), e.Take(true) // one has room
	if a.Give(); given != "dae" {
		t.Errorf("given to %q in this order, want who is urgent before who waits", given)
	}
}

func TestS11_TheBoundIsNotLoggedWithoutEnd(t *testing.T) {
	b := NewBudget(1, nil, func(int) {})
	share := b.NewShare()
	first, second := share.NewPlace(func() {}), share.NewPlace(func() {})
	now, lines := time.Now(), 0
	for range 100 {
		first.Take(false)
		second.Take(false)
		if b.Report(now) != nil {
			lines++
		}
		first.Give()
		second.Give()
	}
	if lines != 5 {
		t.Errorf("%d lines", lines)
	}
}

func TestPlacesOfNoBudget(t *testing.T) {
	var b *Budget
	p := b.NewShare().NewPlace(nil)
	for range 2 {
		if !p.Take(false) {
			t.Error("it is bounded")
		}
		p.Give()
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
