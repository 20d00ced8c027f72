package discovery

import (
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
)

// configSpacing is the least time between two readings of a live service config. Each reads what may be a long text,
// and may have every connection build a new policy.
const configSpacing = time.Second

// liveConfig is a value found where the live service config of a key is kept.
type liveConfig struct {
	raw  string // as much of it as a config may have
	size int    // in etcd, in bytes
}

func (l liveConfig) equal(o liveConfig) bool { return l == o }

// configCore decides which live service config of a key is in force.
type configCore struct {
	read func(liveConfig) (json string, err error) // checks a value

	good      string // in force, as canonical JSON; "": none
	known     bool   // etcd has said whether there is one, or the disk which
	confirmed bool   // etcd has said so since the key is followed
	bad       error  // why what etcd has is not in force; nil: it is

	value  *liveConfig // the last value read; nil: none
	readAt time.Time   // when value was read
	next   time.Time   // when to read waits; zero: nothing waits
	waits  *liveConfig // the value to be read next; nil: a deletion

	lines loglimit.Limiter // of bad values
}

// warning is a log line about a value that cannot be used.
type warning struct {
	text   string // "": there is none
	err    error
	missed int // lines like it that were left out since the last one
}

// take takes an update in. A config that etcd refuses to show counts as none.
func (c *configCore) take(u listwatch.Update[liveConfig], now time.Time) warning {
	if u.Snapshot == nil {
		c.known, c.confirmed = c.known || refused(u.Err), c.confirmed || refused(u.Err)
		return warning{}
	}
	c.known, c.confirmed = true, true
	var value *liveConfig
	if len(u.Snapshot.Items) > 0 {
		value = &u.Snapshot.Items[0].Value
	}
	c.waits, c.next = nil, time.Time{}
	if value == nil && c.value == nil || value != nil && c.value != nil && value.equal(*c.value) {
		return warning{}
	}
	c.waits, c.next = value, c.readAt.Add(configSpacing)
	return c.settle(now)
}

// settle reads the value that waits, once it is time, and puts it in force. One that cannot be used is reported and
// leaves the last good one in force, which only a deletion ends.
func (c *configCore) settle(now time.Time) warning {
	if c.next.IsZero() || now.Before(c.next) {
		return warning{}
	}
	c.value, c.readAt = c.waits, now
	c.waits, c.next = nil, time.Time{}
	if c.value == nil {
		c.good, c.bad = "", nil
		return warning{}
	}
	json, err := c.read(*c.value)
	c.bad = err
	if err != nil {
		if ok, missed := c.lines.Allow(now); ok {
			return warning{"bad live service config in etcd; the last good one stays in force", err, missed}
		}
		return warning{}
	}
	c.good = json
	return warning{}
}

// recall puts in force what the disk has of a config, as read returns it, until etcd says more.
func (c *configCore) recall(json string) {
	if !c.known && json != "" {
		c.value, c.good, c.known = &liveConfig{json, len(json)}, json, true
	}
}

// drop forgets the value that waits. It is called when the config is no longer followed.
func (c *configCore) drop() { c.waits, c.next, c.confirmed = nil, time.Time{}, false }
