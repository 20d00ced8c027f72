package discovery

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
)

// TestLiveConfigsAreHandedOut has updates of all live configs taken in: each follower hears what is new to it.
func TestLiveConfigsAreHandedOut(t *testing.T) {
	group := listwatch.NewGroup(listwatch.Config[liveConfig]{Client: silent{}, Logger: slog.New(slog.DiscardHandler)})
	defer group.Close()
	var heard []string
	l := newLiveConfigs(group, "ns/", func(error) { heard = append(heard, "apart") })
	follow := func(name, key string) (stop func()) {
		return l.follow(key, func(u listwatch.Update[liveConfig]) {
			text := fmt.Sprint(name, " ", u.Err)
			if u.Snapshot != nil {
				text = name + " none"
				for _, item := range u.Snapshot.Items {
					text = name + " " + item.Value.raw
				}
			}
			heard = append(heard, text)
		})
	}
	item := func(key, raw string) *listwatch.Item[liveConfig] {
		return &listwatch.Item[liveConfig]{Key: key, Value: liveConfig{raw: raw}}
	}
	update := func(keys string, items ...*listwatch.Item[liveConfig]) listwatch.Update[liveConfig] {
		return listwatch.Update[liveConfig]{Snapshot: &listwatch.Snapshot[liveConfig]{Keys: strings.Fields(keys), Items: items}}
	}
	a1, a2, b1 := item("a", "a1"), item("a", "a2"), item("b", "b1")
	down := listwatch.Update[liveConfig]{Snapshot: update("a b", a1, b1).Snapshot, Err: errors.New("down")}
	stopA := follow("first", "a")
	together := l.together
	for _, tt := range []struct {
		what string
		do   func()
		u    listwatch.Update[liveConfig]
		want string
	}{
		{"an error, with nothing known", nil, listwatch.Update[liveConfig]{Err: errors.New("down")}, "first down"},
		{"its config", nil, update("a", a1), "first a1"},
		{"the same once more", nil, update("a", a1), ""},
		{"one joins whose key is not listed yet", func() { follow("second", "b") }, update("a", a1), ""},
		{"it is listed", nil, update("a b", a1), "second none"},
		{"it has a config", nil, update("a b", a1, b1), "second b1"},
		{"one joins whose key is known", func() { follow("third", "b") }, update("a b", a1, b1), "third b1"},
		{"an error, with all known", nil, down, ""},
		{"one has left", stopA, update("a b", a2, b1), ""},
		{"it left already", stopA, update("a b"), "second none, third none"},
		{"they cannot be followed together", nil, listwatch.Update[liveConfig]{Err: listwatch.ErrApart}, "apart"},
		{"a late update", nil, update("a b", a1, b1), ""},
	} {
		if tt.do != nil {
			tt.do()
		}
		heard = nil
		for _, tell := range l.take(together, tt.u) {
			tell()
		}
		slices.Sort(heard)
		if got := strings.Join(heard, ", "); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.want)
		}
	}
	stop := follow("fourth", "a")
	for f := range l.followers {
		if f.stop == nil {
			t.Errorf("nobody follows %q", f.key)
		}
	}
	if stop(); len(l.followers) != 2 {
		t.Errorf("%d are left", len(l.followers))
	}
}

// TestManyLiveConfigs follows more live configs than one transaction reads: those beyond are followed one by one, and the
// others together until the last of them leaves.
func TestManyLiveConfigs(t *testing.T) {
	group := listwatch.NewGroup(listwatch.Config[liveConfig]{Client: silent{}, Logger: slog.New(slog.DiscardHandler)})
	defer group.Close()
	l := newLiveConfigs(group, "ns/", func(err error) { t.Errorf("followed one by one: %v", err) })
	follow := func(n int) (stop func()) {
		return l.follow(fmt.Sprintf("ns/%03d", n), func(listwatch.Update[liveConfig]) {})
	}
	alone := func() (n int) {
		for f := range l.followers {
			if f.stop != nil {
				n++
			}
		}
		return n
	}
	var together []func()
	for n := range 128 {
		together = append(together, follow(n))
	}
	if alone() != 0 {
		t.Errorf("%d of 128 are followed alone", alone())
	}
	beyond, again := follow(128), follow(0)
	if alone() != 1 {
		t.Errorf("%d of 129 are followed alone, want 1", alone())
	}
	for _, stop := range together {
		stop()
	}
	if l.together == nil {
		t.Error("the last of a key's two followers is followed no more")
	}
	again()
	if l.together != nil || alone() != 1 {
		t.Errorf("followed together %v, alone %d; want nothing and 1", l.together, alone())
	}
	defer beyond()
	if follow(1); l.together == nil {
		t.Error("whoever comes then is not followed together")
	}
}
