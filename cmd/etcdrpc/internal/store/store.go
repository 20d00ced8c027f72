// Package store reads and writes etcd: lists, watches and leases. Nothing else of etcdrpc
// speaks to etcd, but for package runtime, by which register and xds do.
package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/plaintext"
)

// What may fail of a request.
var (
	ErrDenied  = errors.New("etcd denies permission")
	ErrChanged = errors.New("someone else changed it at the same time: look again")
)

// Store is etcd, below the namespace: all keys are without it.
type Store struct {
	client    *clientv3.Client
	met       *connection
	endpoints []string
	kv        timed
	watcher   clientv3.Watcher
	namespace string
	User      string        // "" none was given
	Exposed   []string      // hosts that the password is sent to without TLS
	subject   string        // the common name of the client certificate, by which etcd may know the user
	timeout   time.Duration // of one request
}

// EntryOf returns a key with its value.
func EntryOf(kv *mvccpb.KeyValue) survey.Entry {
	return survey.Entry{Key: string(kv.Key), Value: kv.Value, Lease: kv.Lease, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision}
}

// Exposed returns the hosts that the password is sent to over a network without TLS.
func Exposed(cfg clientv3.Config) []string {
	if cfg.Password == "" {
		return nil
	}
	return plaintext.Exposed(cfg.Endpoints, cfg.TLS != nil)
}

// Open connects to etcd. All keys are below prefix, and timeout is that of one request.
func Open(cfg clientv3.Config, prefix string, timeout time.Duration) (*Store, error) {
	s := &Store{met: new(connection), endpoints: cfg.Endpoints, namespace: prefix, User: cfg.Username, timeout: timeout, Exposed: Exposed(cfg)}
	if cfg.TLS != nil && cfg.TLS.GetClientCertificate != nil {
		if cert, err := cfg.TLS.GetClientCertificate(new(tls.CertificateRequestInfo)); err == nil && cert.Leaf != nil {
			s.subject = cert.Leaf.Subject.CommonName
		}
	}
	cfg.DialOptions = append(slices.Clone(cfg.DialOptions), grpc.WithChainUnaryInterceptor(s.met.intercept))
	var err error
	if s.client, err = clientv3.New(cfg); err != nil {
		return nil, s.explainWithin(cfg.DialTimeout, "connect to etcd", err)
	}
	s.kv = timed{namespace.NewKV(s.client.KV, s.namespace), timeout}
	s.watcher = namespace.NewWatcher(s.client.Watcher, s.namespace)
	return s, nil
}

// Connect returns a client of etcd for package runtime.
func Connect(cfg clientv3.Config) (*clientv3.Client, error) {
	s, err := Open(cfg, "", 0)
	if err != nil {
		return nil, err
	}
	s.met.handed.Store(true)
	return s.client, nil
}

// Close closes the connection to etcd.
func (s *Store) Close() { s.client.Close() }

// Endpoints returns where etcd is asked.
func (s *Store) Endpoints() []string { return s.endpoints }

// Full returns a key as etcd has it.
func (s *Store) Full(key string) string { return s.namespace + key }

// who says whom etcd takes us for.
func (s *Store) who() string {
	switch {
	case s.User != "":
		return fmt.Sprintf("the user %q", s.User)
	case s.subject != "":
		return "the user that --cert names"
	}
	return "a client without --user"
}

// explain says of a failed request what it was for, why it failed and what may help.
func (s *Store) explain(doing string, err error) error {
	if etcderr.Code(err) == codes.PermissionDenied || errors.Is(err, rpctypes.ErrUserEmpty) {
		return fmt.Errorf("%s: %w to %s", doing, ErrDenied, s.who())
	}
	return s.explainWithin(s.timeout, doing, err)
}

// explainWithin does the same for a request that may take some time, and that etcd did not refuse.
func (s *Store) explainWithin(timeout time.Duration, doing string, err error) error {
	why := s.met.why(err, s.User, s.endpoints)
	switch {
	case why == nil:
		return UnansweredError{fmt.Errorf("%s: %w", doing, err)}
	case errors.As(err, new(downError)):
		err = fmt.Errorf("etcd at %s: %w", strings.Join(s.endpoints, ","), err)
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("not within %v", timeout)
	}
	err = etcderr.With(err, why)
	if help := remedy(why.Error()); help != "" {
		return UnansweredError{fmt.Errorf("%s: %w: %s", doing, err, help)}
	}
	return UnansweredError{fmt.Errorf("%s: %w", doing, err)}
}

// named returns the key that a range begins with, as etcd has it.
func (s *Store) named(from string) string { return s.Full(strings.Trim(from, "\x00")) }

// Scan lists a range as it was at one moment, page by page as the runtime does. Of values that no client reads, for their
// size, it keeps the heads.
func (s *Store) Scan(ctx context.Context, r KeyRange) (entries []survey.Entry, revision int64, err error) {
	revision, err = listwatch.Pages(ctx, s.kv, listwatch.Range{From: r.From, End: r.End}, func(page []*mvccpb.KeyValue) error {
		if len(page) > 0 && len(entries) > 0 && string(page[0].Key) <= entries[len(entries)-1].Key {
			entries = nil // it has begun again
		}
		for _, kv := range page {
			entries = append(entries, EntryOf(kv).Shortened())
		}
		return nil
	})
	if err != nil {
		return nil, 0, s.explain(fmt.Sprintf("list the keys under %q", s.named(r.From)), err)
	}
	return entries, revision, nil
}

// timed bounds the time of each read.
type timed struct {
	clientv3.KV
	timeout time.Duration
}

func (t timed) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	return t.KV.Get(ctx, key, opts...)
}

// Get returns one key; nil, where it is not there.
func (s *Store) Get(ctx context.Context, key string) (*survey.Entry, error) {
	return s.GetAt(ctx, key, 0)
}

// GetAt returns one key as it was at a revision, which etcd may have compacted; 0: as it is.
func (s *Store) GetAt(ctx context.Context, key string, revision int64) (*survey.Entry, error) {
	resp, err := s.kv.Get(ctx, key, clientv3.WithRev(revision))
	switch {
	case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, rpctypes.ErrFutureRev): // an answer
		return nil, fmt.Errorf("read %q at revision %d: %w", s.named(key), revision, err)
	case err != nil:
		return nil, s.explain(fmt.Sprintf("read %q", s.named(key)), err)
	}
	if len(resp.Kvs) == 0 {
		return nil, nil
	}
	found := EntryOf(resp.Kvs[0])
	return &found, nil
}

// mayHaveArrived reports whether a request that failed may be in force: its answer did not come, or was that etcd had no
// time.
func mayHaveArrived(err error) bool {
	if down, ok := errors.AsType[downError](err); ok {
		return down.sent
	}
	return !errors.As(err, new(rpctypes.EtcdError)) || slices.ContainsFunc([]error{
		rpctypes.ErrTimeout, rpctypes.ErrTimeoutDueToLeaderFail, rpctypes.ErrTimeoutDueToConnectionLost,
	}, func(timeout error) bool { return errors.Is(err, timeout) })
}

// Replace puts a live config at a key, or deletes it for "", unless it has changed since it was found as old; nil: it was not
// there. Then the error is ErrChanged.
func (s *Store) Replace(ctx context.Context, key string, old *survey.Entry, value string) (revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	found := int64(0)
	if old != nil {
		found = old.ModRevision
	}
	unchanged := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", found)}
	if old != nil && old.Size == 0 { // a restored etcd may give the revision again
		unchanged = append(unchanged, clientv3.Compare(clientv3.Value(key), "=", string(old.Value)))
	}
	ops := []clientv3.Op{clientv3.OpDelete(key)}
	if value != "" {
		ops[0] = clientv3.OpPut(key, value)
	}
	what := fmt.Sprintf("write %q", s.Full(key))
	resp, err := s.kv.Txn(ctx).If(unchanged...).Then(ops...).Commit()
	if err != nil {
		explained := s.explain(what, err)
		if mayHaveArrived(err) {
			explained = fmt.Errorf("%w; whether it was written is not known: look before you do it again", explained)
		}
		return 0, explained
	}
	if !resp.Succeeded {
		return 0, fmt.Errorf("write %q: %w", s.Full(key), ErrChanged)
	}
	return resp.Header.Revision, nil
}
