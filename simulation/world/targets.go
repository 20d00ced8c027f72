package world

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// wrongTargets has each caller call each instance of the shop by its name, and reports those that it does not reach within a
// bound.
func (w *World) wrongTargets(ctx context.Context) {
	for _, c := range w.callers {
		for _, addr := range w.registered() {
			if wrong := lastingly(func() string { return w.wrongTarget(ctx, c, addr) }); wrong != "" {
				w.report(check.Reached, "%s: %s", c.name(), wrong)
			}
		}
	}
}

// wrongTarget describes how a call to the instance at an address went wrong, "" if it did not.
func (w *World) wrongTarget(ctx context.Context, c *caller, addr string) string {
	bounded, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	all, err := c.clients.instances.All(bounded)
	if err != nil {
		return fmt.Sprintf("its instances: %v", err)
	}
	i := slices.IndexFunc(all, func(i runtime.Instance) bool { return i.Addr == addr })
	if i < 0 {
		return fmt.Sprintf("%s is none of its instances", addr)
	}
	name := all[i].Instance
	if !w.named(name, addr) {
		return fmt.Sprintf("it takes %q for the name of %s", name, addr)
	}
	if from := w.addressOf(c.call(ctx, c.clients, shopWho, name)); from != addr {
		return fmt.Sprintf("a call to %q at %s was answered by %q", name, addr, from)
	}
	return ""
}

// named reports whether etcd has an instance of the shop with a name at an address.
func (w *World) named(name, addr string) bool {
	return slices.ContainsFunc(w.etcd.Entries(shopKey+"/"), func(e etcd.Entry) bool {
		return address(e) == addr && (name == addr || slices.Contains(entryOf(e).Names, name))
	})
}

// listed checks the list of all instances of the shop: a caller that has heard of everything lists what etcd has, and does not
// list what it only holds.
func (c *caller) listed(all []runtime.Instance) {
	now := time.Now()
	if at := time.Since(c.w.began) - promptly; at < promptly || c.w.disturbed(c.index, at) || c.w.resetSince(now.Add(-aftermath)) {
		return
	}
	var addrs []string
	for _, i := range all {
		addrs = append(addrs, i.Addr)
		if !c.w.registeredSince(now.Add(-promptly), i.Addr) {
			c.w.report(check.Listed, "%s lists %s, which etcd has not had for %v", c.name(), i.Addr, promptly)
		}
	}
	for _, addr := range c.w.registeredThroughout(now.Add(-promptly)) {
		if !slices.Contains(addrs, addr) {
			c.w.report(check.Listed, "%s does not list %s, which etcd has had for %v", c.name(), addr, promptly)
		}
	}
}
