package world

import (
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// noticed is how soon a process has noticed that it is cut off: its watch has not answered for a while, and no list does.
const noticed = 12 * time.Second

// listed is how long after a list that etcd carried out without an answer it is clear that there will be none: the longest that
// a list may take, and a pause.
const listed = 12 * time.Second

// lookAtKey judges whether a caller says of the shop if etcd can be followed.
func (c *caller) lookAtKey(wrong lasting) {
	registry := c.running()
	if registry == nil {
		wrong.forget()
		return
	}
	err := keyStatus(registry, shopKey).Err
	if wrong.longer(noticed, "cut off", c.cutOff() && err == nil) {
		c.w.report(check.Status, "%s has been cut off from etcd for %v, and says that it follows %s", c.name(), noticed, shopKey)
	}
	if wrong.tooLong("not cut off", !c.w.hampered(c.index) && !c.unanswered() && err != nil) {
		c.w.report(check.Status, "%s has reached etcd for %v, and says of %s: %v", c.name(), keptWithin, shopKey, err)
	}
}

// cutOff reports whether the present life of a process is cut off from etcd. One that began at the same instant may not be.
func (p *process) cutOff() bool {
	p.mu.Lock()
	began := p.begun.Sub(p.w.began)
	p.mu.Unlock()
	now := time.Since(p.w.began)
	return slices.ContainsFunc(p.w.plan.Steps, func(s schedule.Step) bool {
		return s.Kind == schedule.CutFromEtcd && s.Who == p.index && began < s.At && s.At <= now && now < s.At+s.For
	})
}

// unanswered reports whether the caller may wait for the answer of a list, which will not come.
func (c *caller) unanswered() bool {
	now := time.Since(c.w.began)
	return c.w.faulty(c.index, now, now, nil, aftermaths{schedule.AnswersLost: listed})
}
