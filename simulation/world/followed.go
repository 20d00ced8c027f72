package world

import (
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// cutOff are the faults that keep a process from etcd altogether.
var cutOff = aftermaths{schedule.CutFromEtcd: 0}

// noticed is how soon a process has noticed that it is cut off: its watch has not answered for a while, and no list does.
const noticed = 12 * time.Second

// lookAtKey judges whether a caller says of the shop if etcd can be followed.
func (c *caller) lookAtKey(wrong lasting) {
	registry := c.running()
	if registry == nil {
		wrong.forget()
		return
	}
	now := time.Since(c.w.began)
	err := keyStatus(registry, shopKey).Err
	if wrong.longer(noticed, "cut off", c.w.faulty(c.index, now, now, nil, cutOff) && err == nil) {
		c.w.report(check.Status, "%s has been cut off from etcd for %v, and says that it follows %s", c.name(), noticed, shopKey)
	}
	if wrong.tooLong("not cut off", !c.w.hampered(c.index) && err != nil) {
		c.w.report(check.Status, "%s has reached etcd for %v, and says of %s: %v", c.name(), keptWithin, shopKey, err)
	}
}
