// Package store reads and writes etcd: lists, watches and leases. The other
// packages of etcdrpc access etcd only through package store. The commands
// register and xds use package runtime.
package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
)

// Errors of requests.
var (
	ErrDenied  = errors.New("etcd denies permission")
	ErrChanged = errors.New("the live config was changed concurrently: read it again")

	// there was no answer
	ErrMaybeWritten = errors.New("it may have been written: check before you retry")
)

// Store accesses etcd below a namespace. Keys do not include the namespace.
type Store struct {
	output.Commands // for the same etcd

	client  *clientv3.Client
	conn    *connection
	kv      timedKV
	watcher clientv3.Watcher
	timeout time.Duration // of one request
	who     string        // describes the user that etcd authenticates
}

// EntryOf converts a key and value of etcd.
func EntryOf(kv *mvccpb.KeyValue) inventory.Entry {
	return inventory.Entry{
		Key:            string(kv.Key),
		Value:          kv.Value,
		Lease:          kv.Lease,
		CreateRevision: kv.CreateRevision,
		ModRevision:    kv.ModRevision,
	}
}

// Open connects to etcd. commands has the namespace and the files of cfg's TLS.
// timeout bounds each request.
func Open(
	cfg clientv3.Config,
	commands output.Commands,
	timeout time.Duration,
) (*Store, error) {
	commands.Endpoints = cfg.Endpoints
	cfg.Endpoints = leaderFirst(cfg, time.Second)

	// By itself, etcd's client takes the endpoints in turn, so an edit could
	// read one etcd and write another.
	cfg.DialOptions = append(slices.Clone(cfg.DialOptions),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"pick_first":{}}]}`))

	return open(cfg, commands, timeout)
}

// leaderFirst returns the endpoints with the leader's first.
//
// A member counts as the leader if it and another member name it. One member's
// word is not enough: a member that is cut off from the others answers no
// requests, but may name a leader, even itself. If no leader is found within
// wait, or soon after the first answer, the order stays.
func leaderFirst(cfg clientv3.Config, wait time.Duration) []string {
	if len(cfg.Endpoints) < 2 {
		return cfg.Endpoints
	}

	// A login takes long, and older versions of etcd show the status to
	// everyone.
	cfg.Username = ""
	cfg.Password = ""
	cfg.DialOptions = append(slices.Clone(cfg.DialOptions),
		grpc.WithChainUnaryInterceptor(new(connection).intercept))

	client, err := clientv3.New(cfg)
	if err != nil {
		return cfg.Endpoints // another client will get the same error
	}
	defer client.Close()

	first := cfg.Endpoints[0]
	leaders := make(map[uint64]string) // endpoints of members that name themselves
	votes := make(map[uint64]int)      // how many members name a leader

	all := members(client.Ctx(), client, cfg.Endpoints, wait, 250*time.Millisecond)
	for m := range all {
		if m.id == 0 {
			break // etcd shows the status only to its users
		}

		if m.id == m.leader {
			leaders[m.leader] = m.endpoint
		}

		votes[m.leader]++

		if votes[m.leader] > 1 && leaders[m.leader] != "" {
			first = leaders[m.leader]
			break
		}
	}

	isFirst := func(endpoint string) bool { return endpoint == first }
	others := slices.DeleteFunc(slices.Clone(cfg.Endpoints), isFirst)

	return append([]string{first}, others...)
}

// member is an endpoint that answers. All numbers are 0 if etcd denies the
// client its status.
type member struct {
	endpoint            string
	id, leader, cluster uint64 // leader: 0 for none
}

// members yields the endpoints that answer within wait, and within grace after
// the first answer.
func members(
	ctx context.Context,
	client *clientv3.Client,
	endpoints []string,
	wait, grace time.Duration,
) iter.Seq[member] {
	return func(yield func(member) bool) {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()

		answers := make(chan member, len(endpoints))
		for _, endpoint := range endpoints {
			go func() { answers <- ask(ctx, client, endpoint) }()
		}

		for range endpoints {
			m := <-answers
			if m.endpoint == "" {
				continue
			}

			time.AfterFunc(grace, cancel)

			if !yield(m) {
				return
			}
		}
	}
}

// ask returns an endpoint's member, the zero member if it does not answer.
func ask(ctx context.Context, client *clientv3.Client, endpoint string) (m member) {
	if status, err := client.Status(ctx, endpoint); err == nil {
		return member{
			endpoint, status.Header.MemberId, status.Leader, status.Header.ClusterId}
	} else if _, denied := etcderr.Answer(err); denied {
		m.endpoint = endpoint
	}

	return m
}

// open is like Open, but leaves the order and choice of endpoints to etcd's
// client.
func open(
	cfg clientv3.Config,
	commands output.Commands,
	timeout time.Duration,
) (*Store, error) {
	commands.User = cfg.Username
	s := &Store{
		Commands: commands,
		conn:     new(connection),
		timeout:  timeout,
		who:      userName(cfg),
	}

	cfg.DialOptions = append(slices.Clone(cfg.DialOptions),
		grpc.WithChainUnaryInterceptor(s.conn.intercept))

	var err error
	s.client, err = clientv3.New(cfg)
	if err != nil {
		return nil, s.explainTimeout(cfg.DialTimeout, "connect to etcd", err)
	}

	s.kv = timedKV{KV: namespace.NewKV(s.client.KV, s.Namespace), timeout: timeout}
	s.watcher = namespace.NewWatcher(s.client.Watcher, s.Namespace)

	return s, nil
}

// Connect returns an etcd client for package runtime.
func Connect(cfg clientv3.Config) (*clientv3.Client, error) {
	s, err := open(cfg, output.Commands{Endpoints: cfg.Endpoints}, 0)
	if err != nil {
		return nil, err
	}

	s.conn.passthrough.Store(true)

	return s.client, nil
}

// Close closes the connection to etcd.
func (s *Store) Close() {
	s.client.Close()
}

// Full returns the full key in etcd, with the namespace.
func (s *Store) Full(key string) string {
	return s.Namespace + key
}

// userName describes the user that etcd authenticates.
func userName(cfg clientv3.Config) string {
	switch {
	case cfg.Username != "":
		return fmt.Sprintf("the user %q", cfg.Username)
	case cfg.TLS != nil && len(cfg.TLS.Certificates) > 0:
		return fmt.Sprintf("the user of the certificate %q",
			cfg.TLS.Certificates[0].Leaf.Subject.CommonName)
	}

	return "a client without --user"
}

// explain wraps the error of a request with its purpose, its cause and the
// remedy.
func (s *Store) explain(doing string, err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrUserEmpty):
		// etcd may ignore the user's name in a certificate.
		return fmt.Errorf("%s: %w to a client without --user", doing, ErrDenied)
	case etcderr.Code(err) == codes.PermissionDenied:
		return fmt.Errorf("%s: %w to %s", doing, ErrDenied, s.who)
	}

	return s.explainTimeout(s.timeout, doing, err)
}

// byOperator adds who may read or write live configs to the error of a denied
// request.
func byOperator(err error) error {
	if errors.Is(err, ErrDenied) {
		return fmt.Errorf("%w: an operator's role permits it (docs/security.md)", err)
	}

	return err
}

// explainTimeout is like explain, for errors other than denied permissions.
// timeout is the timeout of the request.
func (s *Store) explainTimeout(timeout time.Duration, doing string, err error) error {
	why := cmp.Or(s.conn.why(err, s.User, s.Endpoints), err)

	switch {
	case errors.As(err, new(downError)):
		err = fmt.Errorf("etcd at %s: %w", strings.Join(s.Endpoints, ","), err)
	case etcderr.TimedOut(err):
		err = fmt.Errorf("not within %v", timeout)
	}

	err = etcderr.With(err, why)
	if help := remedy(why); help != "" {
		return UnansweredError{fmt.Errorf("%s: %w: %s", doing, err, help)}
	}

	return UnansweredError{fmt.Errorf("%s: %w", doing, err)}
}

// fullStart adds the namespace to the first key of a range.
func (s *Store) fullStart(start string) string {
	return s.Full(strings.Trim(start, "\x00"))
}

// Scan lists a range, page by page, as of revision at; 0 means the current
// revision. It shortens values that clients do not read.
func (s *Store) Scan(
	ctx context.Context,
	r listwatch.Range,
	at int64,
) (entries []inventory.Entry, revision int64, err error) {
	kv := s.kv
	kv.revision = at

	add := func(page []*mvccpb.KeyValue) error {
		if len(page) > 0 &&
			len(entries) > 0 &&
			string(page[0].Key) <= entries[len(entries)-1].Key {
			entries = nil // the list restarted
		}

		for _, kv := range page {
			entries = append(entries, EntryOf(kv).Shortened())
		}

		return nil
	}

	revision, err = listwatch.Pages(ctx, kv, r, add)
	if err != nil {
		doing := fmt.Sprintf("list the keys under %q", s.fullStart(r.From))
		return nil, 0, s.explain(doing, err)
	}

	return entries, revision, nil
}

// timedKV bounds the time of each read, and reads as of a revision; 0 means the
// current revision.
type timedKV struct {
	clientv3.KV
	timeout  time.Duration
	revision int64
}

func (t timedKV) Get(
	ctx context.Context,
	key string,
	opts ...clientv3.OpOption,
) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()

	if t.revision == 0 {
		return t.KV.Get(ctx, key, opts...)
	}

	resp, err := t.KV.Get(ctx, key, append(opts, clientv3.WithRev(t.revision))...)
	if errors.Is(err, rpctypes.ErrCompacted) {
		// Otherwise a list would begin again at the same revision.
		err = errors.New("etcd has compacted the revision")
	}

	return resp, err
}

// GetAt returns the entry at key as of a revision; 0 means the current
// revision. etcd may have compacted the revision.
func (s *Store) GetAt(
	ctx context.Context,
	key string,
	revision int64,
) (*inventory.Entry, error) {
	resp, err := s.kv.Get(ctx, key, clientv3.WithRev(revision))
	switch {
	case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, rpctypes.ErrFutureRev):
		// This is an answer of etcd, which needs no explanation.
		return nil, fmt.Errorf("read %q at revision %d: %w",
			s.fullStart(key), revision, err)

	case err != nil:
		return nil, s.explain(fmt.Sprintf("read %q", s.fullStart(key)), err)
	}

	if len(resp.Kvs) == 0 {
		return nil, nil
	}

	found := EntryOf(resp.Kvs[0])

	return &found, nil
}

// mayBeApplied reports whether a failed write may be in force: there was no
// answer, or etcd timed out.
func mayBeApplied(err error) bool {
	if down, ok := errors.AsType[downError](err); ok {
		return down.sent
	}

	return !errors.As(err, new(rpctypes.EtcdError)) ||
		errors.Is(err, rpctypes.ErrTimeout) ||
		errors.Is(err, rpctypes.ErrTimeoutDueToLeaderFail) ||
		errors.Is(err, rpctypes.ErrTimeoutDueToConnectionLost)
}

// Replace writes a live config at key, or deletes it if value is "". It returns
// ErrChanged if the current config is not old. If old is nil, the key must be
// absent.
func (s *Store) Replace(
	ctx context.Context,
	key string,
	old *inventory.Entry,
	value string,
) (revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()

	found := int64(0)
	if old != nil {
		found = old.ModRevision
	}

	unchanged := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", found)}

	// The revision is not enough: a restored etcd may reuse it.
	if old != nil && old.Size == 0 {
		unchanged = append(unchanged,
			clientv3.Compare(clientv3.Value(key), "=", string(old.Value)))
	}

	ops := []clientv3.Op{clientv3.OpDelete(key)}
	if value != "" {
		ops[0] = clientv3.OpPut(key, value)
	}

	doing := fmt.Sprintf("write %q", s.Full(key))
	first := uint64(0)

	for _, m := range s.members(ctx) {
		first = cmp.Or(first, m.cluster)
		if m.cluster != 0 && m.cluster != first {
			return 0, s.explain(doing, errClusters)
		}
	}

	resp, err := s.kv.Txn(ctx).If(unchanged...).Then(ops...).Commit()
	if err != nil {
		explained := byOperator(s.explain(doing, err))
		if mayBeApplied(err) {
			explained = fmt.Errorf("%w; %w", explained, ErrMaybeWritten)
		}

		return 0, explained
	}

	if !resp.Succeeded {
		return 0, fmt.Errorf("%s: %w", doing, ErrChanged)
	}

	return resp.Header.Revision, nil
}

// errClusters refuses endpoints of two clusters: the intended etcd is unknown.
var errClusters = errors.New(
	"the endpoints are of two clusters of etcd: give --endpoints of one cluster")

// members returns the members that answer within a second, nil if there is only
// one endpoint.
func (s *Store) members(ctx context.Context) []member {
	if len(s.Endpoints) == 1 {
		return nil
	}

	return slices.Collect(members(ctx, s.client, s.Endpoints, time.Second, time.Second))
}

// Silent returns the endpoints that do not answer within a second while others
// do.
func (s *Store) Silent(ctx context.Context) []string {
	all := s.members(ctx)

	return slices.DeleteFunc(slices.Clone(s.Endpoints), func(endpoint string) bool {
		return len(all) == 0 || slices.ContainsFunc(all, func(m member) bool {
			return m.endpoint == endpoint
		})
	})
}

// EntriesOf returns the range where reader finds the entries of a service.
func EntriesOf(reader endpoint.Reader, key string) listwatch.Range {
	from, end := reader.Range(key)
	return listwatch.Range{From: from, End: end}
}

// ConfigOf returns the range of the live config of a service.
func ConfigOf(key string) listwatch.Range {
	return listwatch.Range{
		From: inventory.ConfigPrefix + key,
		End:  inventory.ConfigPrefix + key + "\x00",
	}
}
