package listwatch

import (
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// askedFor is how long a request for progress is every range's, for its answer reaches all watches of a stream.
const askedFor = time.Second

// pulse is what the ranges of an etcd client share of its signs of life, so that one of them asks for all.
type pulse struct {
	asked map[*stream]time.Time // when a stream was last asked for progress
	head  head                  // the last that was read

	roundTrip time.Duration // that reads usually take; 0: none was answered
	raisedAt  time.Time     // when it was last taken for longer
}

// head is where etcd was at some time: the header of a linearizable read.
type head struct {
	header *etcdserverpb.ResponseHeader
	at     time.Time // when the read began
}

// ask reports whether a stream is to be asked for progress now: no other range has just asked.
func (p *pulse) ask(on *stream, now time.Time) bool {
	for asked, at := range p.asked {
		if now.Sub(at) >= askedFor {
			delete(p.asked, asked)
		}
	}
	if _, ok := p.asked[on]; ok {
		return false
	}
	if p.asked == nil {
		p.asked = make(map[*stream]time.Time)
	}
	p.asked[on] = now
	return true
}

// recent returns the last head, and reports whether it is no older than the given age.
func (p *pulse) recent(age time.Duration, now time.Time) (head, bool) {
	return p.head, p.head.header != nil && now.Sub(p.head.at) <= age
}

// answered notes how long a read took. One that had to wait for a leader, a connection or a processor says little, so the round
// trip is taken for longer only bit by bit, a second apart, and for shorter at once.
func (p *pulse) answered(took time.Duration, now time.Time) {
	switch {
	case p.roundTrip == 0 || took < p.roundTrip:
		p.roundTrip = max(took, 1)
	case now.Sub(p.raisedAt) >= time.Second:
		p.roundTrip += (took - p.roundTrip) / 8
		p.raisedAt = now
	}
}
