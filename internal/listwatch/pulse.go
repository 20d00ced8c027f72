package listwatch

import (
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// askedFor is how long a request for progress is every range's, for its answer reaches all watches of a stream.
const askedFor = time.Second

// pulse is what the ranges of an etcd client share of its signs of life, so that one of them asks for all.
type pulse struct {
	asked map[uint64]time.Time // when a stream was last asked for progress
	head  head                 // the last that was read
}

// head is where etcd was at some time: the header of a linearizable read.
type head struct {
	header *etcdserverpb.ResponseHeader
	at     time.Time // when the read began
}

// ask reports whether a stream is to be asked for progress now: no other range has just asked.
func (p *pulse) ask(stream uint64, now time.Time) bool {
	for asked, at := range p.asked {
		if now.Sub(at) >= askedFor {
			delete(p.asked, asked)
		}
	}
	if _, ok := p.asked[stream]; ok {
		return false
	}
	if p.asked == nil {
		p.asked = make(map[uint64]time.Time)
	}
	p.asked[stream] = now
	return true
}

// recent returns the last head, and reports whether it is no older than the given age.
func (p *pulse) recent(age time.Duration, now time.Time) (head, bool) {
	return p.head, p.head.header != nil && now.Sub(p.head.at) <= age
}
