package discovery

import (
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
)

// configSpacing is the minimum time between two checks of a live service
// config. A check parses a value that may be long, and may cause every
// connection to rebuild its policy.
const configSpacing = time.Second

// liveConfig is the value of the etcd key of a live service config.
type liveConfig struct {
	raw  string // the first serviceconfig.MaxSize bytes of the value in etcd
	size int    // the number of bytes of the whole value
}

// configCore decides which live service config of a key is in force, and puts
// it into the key's state.
type configCore struct {
	// read checks a value, and returns it as canonical JSON without the drains
	// that have ended, and when the next one ends.
	read func(v liveConfig, now time.Time) (json string, until time.Time, err error)

	latest  *liveConfig // the value in etcd; nil if there is none
	value   *liveConfig // the value that was checked last; nil if there is none
	checked time.Time   // when value was checked; zero to check the next value at once
	until   time.Time   // when to check it again, zero for never

	lines loglimit.Limiter // limits log lines about invalid values
}

// warning is a log line about an invalid value.
type warning struct {
	err    error // nil if there is nothing to log
	missed int   // the number of lines suppressed since the last one
}

// take handles an update of the config in etcd, which settle then checks. A
// denial is an answer, too: a config in force stays.
func (c *configCore) take(s *State, u listwatch.Update[liveConfig]) {
	if u.Snapshot == nil {
		if Refused(u.Err) {
			s.LiveKnown = true
			s.LiveConfirmed = true
		}

		return
	}

	s.LiveKnown = true
	s.LiveConfirmed = true

	c.latest = nil
	if len(u.Snapshot.Items) > 0 {
		c.latest = &u.Snapshot.Items[0].Value
	}
}

// due returns when to check the latest value, zero for never.
func (c *configCore) due() time.Time {
	if c.latest == c.value || c.latest != nil && c.value != nil && *c.latest == *c.value {
		return c.until
	}

	return c.checked.Add(configSpacing)
}

// settle checks the latest value once it is due, and puts it in force. An
// invalid value is reported, and the last valid one stays in force until a
// valid value or a deletion.
func (c *configCore) settle(s *State, now time.Time) warning {
	if due := c.due(); due.IsZero() || now.Before(due) {
		return warning{}
	}

	c.value = c.latest
	c.checked = now
	c.until = time.Time{}

	if c.value == nil {
		s.Live = ""
		s.LiveErr = nil

		return warning{}
	}

	json, until, err := c.read(*c.value, now)
	s.LiveErr = err

	if err != nil && s.Live != "" {
		// the last valid one stays, without drains that have ended
		json, until, _ = c.read(liveConfig{s.Live, len(s.Live)}, now)
	}

	s.Live = json

	c.until = until
	if soonest := now.Add(configSpacing); until.Before(soonest) && !until.IsZero() {
		c.until = soonest
	}

	if err == nil {
		return warning{}
	}

	if ok, missed := c.lines.Allow(now); ok {
		return warning{err, missed}
	}

	return warning{}
}

// recall puts a config from the disk in force until etcd answers. The first
// value in etcd is then checked at once.
func (c *configCore) recall(s *State, json string, now time.Time) {
	if s.LiveKnown || json == "" {
		return
	}

	c.latest = &liveConfig{json, len(json)}
	s.LiveKnown = true
	c.settle(s, now)
	c.checked = time.Time{}
}
