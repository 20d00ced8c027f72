package discovery

import (
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
)

// configSpacing is the least time between two checks of a live service config. Each parses a text that may be long, and may
// make every connection build a new policy.
const configSpacing = time.Second

// liveConfig is the value of the etcd key of a live service config.
type liveConfig struct {
	raw  string // the first serviceconfig.MaxSize bytes
	size int    // in bytes, in etcd
}

func (l liveConfig) equal(o liveConfig) bool { return l == o }

// configCore decides which live service config of a key is in force.
type configCore struct {
	read func(liveConfig) (json string, err error) // checks a value and returns it as canonical JSON

	good      string // in force, as canonical JSON; "": none
	known     bool   // etcd has answered, or the disk has had one
	confirmed bool   // etcd has answered since the key is followed
	bad       error  // why the value in etcd is not in force; nil: it is

	value   *liveConfig // the last value checked; nil: none
	checked time.Time   // when value was
	next    time.Time   // when to check pending; zero: nothing is pending
	pending *liveConfig // nil: a deletion

	lines loglimit.Limiter // for bad values
}

// warning is a log line about a bad value.
type warning struct {
	text   string // "": no line
	err    error
	missed int // lines that were left out since the last one
}

// take handles an update. A config that may not be read counts as none.
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
	c.pending, c.next = nil, time.Time{}
	if value == nil && c.value == nil || value != nil && c.value != nil && value.equal(*c.value) {
		return warning{}
	}
	c.pending, c.next = value, c.checked.Add(configSpacing)
	return c.settle(now)
}

// settle checks the pending value when its time has come, and puts it in force. A bad one is reported, and the last good one
// stays in force until a good one or a deletion comes.
func (c *configCore) settle(now time.Time) warning {
	if c.next.IsZero() || now.Before(c.next) {
		return warning{}
	}
	c.value, c.checked = c.pending, now
	c.pending, c.next = nil, time.Time{}
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

// recall puts a config from the disk in force until etcd answers. It is canonical JSON.
func (c *configCore) recall(json string) {
	if !c.known && json != "" {
		c.value, c.good, c.known = &liveConfig{json, len(json)}, json, true
	}
}

// drop discards the pending value when the config is no longer followed.
func (c *configCore) drop() { c.pending, c.next, c.confirmed = nil, time.Time{}, false }
