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
	permit := func(s *Share, name string) *Permit { return s.NewPermit(func() { given += name }) }
	a, c, d, e := permit(share, "a"), permit(share, "c"), permit(share, "d"), permit(share, "e")
	_ = a.Acquire(false) // it may ask again
	if !a.Acquire(false) || !c.Acquire(false) || b.Report(now) != nil || b.Err().Error() != "full" || b.Limit() != 2 {
		t.Error("the first two have no permits")
	}
	if d.Acquire(false) || e.Acquire(false) {
		t.Error("there are more than two")
	}
	b.Report(now)()
	if b.Report(now) != nil || logged != 1 {
		t.Errorf("%d lines are logged", logged)
	}
	other := permit(b.NewShare(), "o")
	if !other.Acquire(false) {
		t.Error("one that holds none is refused its first")
	}
	other.Release()
	if given != "" {
		t.Errorf("%s are given a permit beyond the bound", given)
	}
	a.Release()
	a.Acquire(false)
	a.Acquire(true) // a call names it
	c.Release()
	if given != "da" {
		t.Errorf("given to %q in this order, want who has waited longest, then who is urgent", given)
	}
	e.Release() // it waits no longer
	d.Release()
	d.Release()
	if given != "da" || b.used != 1 || share.held != 1 {
		t.Errorf("given to %q, %d used", given, b.used)
	}
	_, _, _ = c.Acquire(false), d.Acquire(false), e.Acquire(true) // one has room
	if a.Release(); given != "dae" {
		t.Errorf("given to %q in this order, want who is urgent before who waits", given)
	}
}

func TestS4_AShareThatLosesItsLastPlaceHasAnother(t *testing.T) {
	b, given := NewBudget(1, nil, func(int) {}), ""
	first, second := b.NewShare(), b.NewShare()
	a, c := first.NewPermit(nil), first.NewPermit(func() { given += "c" })
	d, e, f := second.NewPermit(nil), second.NewPermit(func() { given += "e" }), second.NewPermit(func() { given += "f" })
	_, _ = a.Acquire(false), d.Acquire(false)
	_, _, _ = c.Acquire(false), e.Acquire(false), f.Acquire(false)
	if d.Release(); given != "e" || b.used != 2 {
		t.Errorf("given to %q, %d used", given, b.used)
	}
	if e.Release(); given != "ef" {
		t.Errorf("given to %q", given)
	}
	f.Release()
	if a.Release(); given != "efc" || b.used != 1 || b.waiting.Len() > 0 {
		t.Errorf("given to %q, %d used", given, b.used)
	}
}

func TestAPlaceForTheLeader(t *testing.T) {
	b := NewBudget(1, nil, func(int) {})
	share, given := b.NewShare(), ""
	a, c, d := share.NewPermit(nil), share.NewPermit(func() { given += "c" }), share.NewPermit(func() { given += "d" })
	if !a.Acquire(false) || c.Acquire(false) || !c.Lead() || d.Lead() || b.used != 1 {
		t.Errorf("one beyond the bound is held: %v, %v", c.held, d.held)
	}
	if c.Yield() {
		t.Error("one beyond the bound is held, and not the leader's any more")
	}
	if c.Release(); !d.Lead() || share.beyond != d {
		t.Error("another leads, and has no place")
	}
	if a.Release(); !d.Yield() || b.used != 1 || share.held != 1 || share.beyond != nil {
		t.Errorf("with a place that is free: %d used", b.used)
	}
	if d.Release(); b.used != 0 || share.held != 0 || given != "" || !d.Yield() {
		t.Errorf("%d used in the end, and %q given", b.used, given)
	}
}

func TestS11_TheBoundIsNotLoggedWithoutEnd(t *testing.T) {
	b := NewBudget(1, nil, func(int) {})
	share := b.NewShare()
	first, second := share.NewPermit(func() {}), share.NewPermit(func() {})
	now, lines := time.Now(), 0
	for range 100 {
		first.Acquire(false)
		second.Acquire(false)
		if b.Report(now) != nil {
			lines++
		}
		first.Release()
		second.Release()
	}
	if lines != 5 {
		t.Errorf("%d lines", lines)
	}
}

func TestPlacesOfNoBudget(t *testing.T) {
	var b *Budget
	p := b.NewShare().NewPermit(nil)
	for range 2 {
		if !p.Acquire(false) {
			t.Error("it is bounded")
		}
		p.Release()
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
