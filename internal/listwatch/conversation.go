package listwatch

import (
	"cmp"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/login"
)

// Conversation makes the requests for all ranges of an etcd client, so that a
// fleet of processes makes few requests. It has one request at a time for pages
// of all ranges, one for proofs, and one stream for all watches. It is safe for
// concurrent use.
type Conversation struct {
	client  Client
	login   *login.Login
	streams *streams
	spread  uint8 // differs between processes, to spread the proofs of a fleet

	// connected waits until the client is connected or cannot connect. It
	// returns false if ctx ends first. It is nil for a client without a
	// connection.
	connected func(ctx context.Context) bool

	// Why returns a cause to add to the error of a call, nil for none.
	Why func(error) error

	// Down returns why etcd is not connected, nil if it is.
	Down func() error

	mu            sync.Mutex
	pages, proofs queue
	ranges        map[*asker]struct{}
	timer         *time.Timer     // calls advance
	ctx           context.Context // of the requests; ends with the last range
	cancel        context.CancelFunc
}

// ConversationOf returns the conversation of a client, whose calls log in by l.
// Ranges are proven often if the client has no connection, such as one of
// clientv3.NewCtxClient: nothing reports a reconnect, perhaps to another etcd.
func ConversationOf(c *clientv3.Client, l *login.Login) *Conversation {
	conversation := NewConversation(c)
	conversation.login = l

	if conn := c.ActiveConnection(); conn != nil {
		conversation.connected = func(ctx context.Context) bool {
			conn.Connect() // an unused client is idle
			return conn.WaitForStateChange(ctx, connectivity.Connecting)
		}
	}

	return conversation
}

// NewConversation returns the conversation of a client without a connection.
func NewConversation(client Client) *Conversation {
	return &Conversation{
		client:  client,
		Why:     func(error) error { return nil },
		Down:    func() error { return nil },
		spread:  uint8(rand.Uint32()),
		streams: newStreams(),
		pages:   newQueue(),
		proofs:  newQueue(),
		ranges:  make(map[*asker]struct{}),
	}
}

func (c *Conversation) join(a *asker) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if len(c.ranges) == 0 {
		c.ctx, c.cancel = context.WithCancel(context.Background())
	}

	c.ranges[a] = struct{}{}
}

// leave removes a range. The requests under way end with the last range.
func (c *Conversation) leave(a *asker) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.replace(a, nil)
	delete(c.ranges, a)

	if len(c.ranges) == 0 {
		c.cancel()
	}
}

// ConnChanged reports that the connection to etcd is back or, if Down returns
// an error, lost: the etcd client hides both. While the connection is lost,
// every range has that error, and reads nothing. Once it is back, pauses before
// a list end, and watched ranges are proven, because etcd may have been
// replaced.
func (c *Conversation) ConnChanged() {
	c.mu.Lock()
	defer c.mu.Unlock()

	for a := range c.ranges {
		Signal(a.conn)
	}
}

// want replaces the wish of a range, nil for nothing to read. A range with the
// same wish as before keeps its place in the request under way.
func (c *Conversation) want(a *asker, w *wish) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if w == nil || a.wish == nil || !w.same(a.wish) {
		c.replace(a, w)
		c.schedule()
	}
}

// replace replaces the wish of a range, and drops the answer to its last wish.
func (c *Conversation) replace(a *asker, w *wish) {
	c.pages.remove(a)
	c.proofs.remove(a)
	a.wish = w
	a.forget()

	switch {
	case w == nil:
	case w.page != (page{}):
		c.pages.add(a)
	default:
		c.proofs.add(a)
	}
}

// schedule sets the timer for the next request. It must be called with mu held.
func (c *Conversation) schedule() {
	at, ok := c.pages.next()
	if proof, due := c.proofs.next(); due && (!ok || proof.Before(at)) {
		at = proof
		ok = true
	}

	switch {
	case !ok:
	case c.timer == nil:
		c.timer = time.AfterFunc(time.Until(at), c.advance)
	default:
		c.timer.Reset(time.Until(at))
	}
}

// advance begins the requests that are due.
func (c *Conversation) advance() {
	c.mu.Lock()
	defer c.mu.Unlock()

	now := time.Now()
	for _, q := range []*queue{&c.pages, &c.proofs} {
		if at, ok := q.next(); ok && !at.After(now) {
			q.begin(now)
			go c.request(c.ctx, q, q.asked, q.timeout)
		}
	}

	c.schedule()
}

// request makes a request, and passes the answers to the ranges.
func (c *Conversation) request(
	ctx context.Context,
	q *queue,
	asked []ask,
	timeout time.Duration,
) {
	answers, took, err := c.read(ctx, asked, timeout)

	c.mu.Lock()
	defer c.mu.Unlock()

	report, again := q.answered(err, took, time.Now())
	for i, a := range asked {
		if a.stale() || !report {
			continue
		}

		e := event{
			err:     err,
			pending: again,
			proof:   a.wish.page == (page{}),
			asOf:    a.wish.asOf,
			took:    took,
		}
		if err == nil {
			e.read = answers[i]
		}

		a.forget() // makes room
		a.answer <- e
	}

	c.schedule()
}

// read makes a request, and returns etcd's answers and how long etcd took. It
// first waits for a connection that is being made, and for a turn to log in.
func (c *Conversation) read(
	ctx context.Context,
	asked []ask,
	timeout time.Duration,
) (answers []*clientv3.GetResponse, took time.Duration, err error) {
	if c.connected != nil && !c.connected(ctx) {
		return nil, 0, ctx.Err()
	}

	timeout, done := c.login.Turn(ctx, timeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	began := time.Now()
	answers, err = c.get(ctx, asked)
	done(err)

	return answers, time.Since(began), err
}

// get reads all ranges of a request at one revision.
func (c *Conversation) get(
	ctx context.Context,
	asked []ask,
) ([]*clientv3.GetResponse, error) {
	if len(asked) == 1 {
		key, opts := asked[0].args()
		resp, err := c.client.Get(ctx, key, opts...)

		return []*clientv3.GetResponse{resp}, err
	}

	reads := make([]clientv3.Op, len(asked))
	for i, a := range asked {
		key, opts := a.args()
		reads[i] = clientv3.OpGet(key, opts...)
	}

	resp, err := c.client.Txn(ctx).Then(reads...).Commit()
	if err != nil {
		return nil, err
	}

	answers := make([]*clientv3.GetResponse, len(asked))
	for i, answer := range resp.Responses {
		answers[i] = (*clientv3.GetResponse)(answer.GetResponseRange())
		answers[i].Header = resp.Header // its own has only the revision
	}

	return answers, nil
}

// args returns the arguments of the read of a page or, for a proof, of the
// number of keys and of the key changed last.
func (a ask) args() (key string, opts []clientv3.OpOption) {
	if a.wish.page != (page{}) {
		return cmp.Or(a.wish.page.from, a.in.From), a.wish.page.opts(a.in)
	}

	return a.in.From, a.in.opts(clientv3.WithLimit(1),
		clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend))
}
