package metrics

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// provider makes meters whose counters panic.
type provider struct{ noop.MeterProvider }

func (provider) Meter(string, ...metric.MeterOption) metric.Meter { return meter{} }

type meter struct{ noop.Meter }

func (meter) Int64Counter(string, ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	return counter{}, nil
}

func (meter) Int64UpDownCounter(string, ...metric.Int64UpDownCounterOption) (metric.Int64UpDownCounter, error) {
	return upDown{}, nil
}

type counter struct{ noop.Int64Counter }

func (counter) Add(_ context.Context, n int64, _ ...metric.AddOption) { fail(n) }

type upDown struct{ noop.Int64UpDownCounter }

func (upDown) Add(_ context.Context, n int64, _ ...metric.AddOption) { fail(n) }

// fail panics, but not for the zeros that New adds in the application's own goroutine.
func fail(n int64) {
	if n != 0 {
		panic("no exporter")
	}
}

// A meter that panics does not end the process: it is called in goroutines of this module.
func TestMetrics_PanicsAreContained(t *testing.T) {
	m, err := New(provider{}, func() []*discovery.Key { return nil })
	if err != nil {
		t.Fatal(err)
	}
	m.RegistrationChanged(lease.Lost, lease.Registered)
	hooks := m.ListwatchHooks(Endpoints)
	hooks.Relisted("closed")
	hooks.Malformed("a")
}
