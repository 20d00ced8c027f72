package runtime

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// TestBadJSONLayout uses a layout that names no address, and two in one watch, in every way: each is an error at once.
func TestBadJSONLayout(t *testing.T) {
	r := NewRegistry(away(t))
	defer func() {
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	bad, good, other := JSONLayout(JSONFields{Version: "v"}), JSONLayout(JSONFields{Addr: "a"}), JSONLayout(JSONFields{Addr: "b"})
	desc := &ServiceDesc{Name: "a.B", Key: "a/b", Layout: bad}
	plaintext := grpc.WithTransportCredentials(insecure.NewCredentials())
	watch := func(layouts ...Layout) error {
		for _, err := range r.Watch(ctx, "a/b", layouts...) {
			return err
		}
		return nil
	}
	const noAddress = "names no address"
	for name, use := range map[string]struct {
		do   func() error
		want string
	}{
		"NewClient":    {func() error { _, err := r.NewClient(desc, plaintext); return err }, noAddress},
		"NewInstances": {func() error { _, err := r.NewInstances(desc, plaintext); return err }, noAddress},
		"Register":     {func() error { _, err := r.Register(ctx, "a/b", Endpoint{Addr: "h:1"}, WithLayouts(bad)); return err }, noAddress},
		"Add":          {func() error { return r.Add(ctx, "a/b", Endpoint{Addr: "h:1"}, WithLayouts(bad)) }, noAddress},
		"Watch":        {func() error { return watch(bad) }, noAddress},
		"Watch two":    {func() error { return watch(good, other) }, "two JSON layouts"},
		"Announce": {func() error {
			s := r.NewServer(grpc.NewServer())
			s.Publish(desc)
			return s.Announce(ctx, "127.0.0.1:1")
		}, noAddress},
	} {
		if err := use.do(); err == nil || !strings.Contains(err.Error(), use.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, use.want)
		}
	}
	cancel()
	if err := watch(good, JSONLayout(JSONFields{Addr: "a"}), nil); err != nil {
		t.Errorf("Watch of one layout, said twice: %v", err)
	}
}
