package runtime

import (
	"bytes"
	"context"
	"log/slog"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func TestS4_ClientsOfAKeyShareABudget(t *testing.T) {
	var logged bytes.Buffer
	r := NewRegistry(away(t), WithLimits(Limits{Connections: 1}), WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
	defer func() { _ = r.Close(context.Background()) }()
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	one, _, err := r.newClient(&ServiceDesc{Name: "s.A", Key: "acme/user"}, clientOptions{}, []grpc.DialOption{plain})
	if err != nil {
		t.Fatal(err)
	}
	all, err := r.NewInstances(&ServiceDesc{Name: "s.B", Key: "acme/user"}, plain)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := r.newClient(&ServiceDesc{Name: "s.C", Key: "acme/other"}, clientOptions{}, []grpc.DialOption{plain})
	if err != nil {
		t.Fatal(err)
	}
	shared := one.client.Connections
	if shared == nil || all.client.Connections != shared || other.client.Connections == shared {
		t.Error("the clients of a key do not share its budget alone")
	}
	share := shared.NewShare()
	if !share.NewPermit(nil).Acquire(false) || share.NewPermit(nil).Acquire(false) {
		t.Error("it has not one place")
	}
	shared.Report(time.Now())()
	if line := logged.String(); !strings.Contains(line, "level=WARN") || !strings.Contains(line, "key=acme/user") || !strings.Contains(line, "limit=1") {
		t.Errorf("logged: %s", line)
	}
	if text := shared.Err().Error(); !strings.Contains(text, `no connection to "acme/user" is free: this process may have 1;`) {
		t.Errorf("the error: %s", text)
	}
}

func TestBudgetsAreForgotten(t *testing.T) {
	var b budgets
	first := b.of("a")
	if b.of("a") != first || !strings.Contains(first.Err().Error(), "by default a quarter of the ") {
		t.Errorf("the error of the default: %v", first.Err())
	}
	goruntime.KeepAlive(first) // and no longer
	for range 3 {
		goruntime.GC()
	}
	if b.of("b"); len(b.byKey) != 1 {
		t.Errorf("%d budgets are kept", len(b.byKey))
	}
}
