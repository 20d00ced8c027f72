package etcd

import "time"

// queue is the work of the members. The cluster's mu guards it.
type queue struct {
	request, login    time.Duration // the time that a request and a login take
	requests, streams int           // the numbers of requests and streams that arrived
}

// Queue makes each member serve one request at a time, in the order of arrival.
// It sets how long a login and any other request take. A request keeps its
// place if its client gives up, and is lost if the process ends.
func (c *Cluster) Queue(request, login time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.queue = queue{request: request, login: login}
}

// Served returns the number of requests since the call of Queue, and how many
// of them opened a stream.
func (c *Cluster) Served() (requests, streams int) {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.queue.requests, c.queue.streams
}

// Hang makes a member serve no request for the time d. The member first serves
// the requests that are already in its queue.
func (c *Cluster) Hang(member int, d time.Duration) {
	p := c.last(member)

	c.mu.Lock()
	defer c.mu.Unlock()

	p.occupy(d)
}

// enqueue returns the time until the process has served a request that has just
// arrived.
func (p *process) enqueue(method string) time.Duration {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()

	q := &p.c.queue
	q.requests++

	switch method {
	case opening:
		q.streams++
	case "Authenticate":
		return p.occupy(q.login)
	}

	return p.occupy(q.request)
}

// opening is the method of the opening of a stream, which Intercept does not
// see.
const opening = "opening"

// occupy adds work to the queue, and returns the time until it is done. The
// cluster's mu is held.
func (p *process) occupy(work time.Duration) time.Duration {
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}

	p.free = p.free.Add(work)

	return p.free.Sub(now)
}
