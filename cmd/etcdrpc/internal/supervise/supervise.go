// Package supervise runs a command that knows nothing of etcd, and keeps it there while it serves.
//
//	core.go      what becomes of the command and of its entry; no I/O
//	supervise.go carries out what the core decides
//	entry.go     the entry in etcd, by package runtime
//	probe.go     asks the command whether it serves
//	process_*.go the command's processes
//	reap_*.go    orphans, for whoever has to reap them
package supervise

import (
	"context"
	"os"
	"sync"
	"time"
)

// groupPoll is the pause between two looks at whether a process group is empty, which nothing tells.
const groupPoll = 20 * time.Millisecond

// Command is a command to supervise.
type Command struct {
	Settings
	Args    []string          // the program and its arguments
	Entry   Entry             // in etcd
	Probe   Probe             // of the command
	Signals <-chan os.Signal  // to the supervisor
	Say     func(line string) // tells people
}

// Run runs a command until it has ended and is out of etcd, and returns its exit code. An error says that it could not be
// started; the code then is the one that shells use.
func (c Command) Run(ctx context.Context) (code int, err error) {
	p, code, err := start(c.Args)
	if err != nil {
		return code, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &runner{Command: c, ctx: ctx, events: make(chan event), process: p, entry: newKeeper(ctx, c.Entry), probe: &prober{Probe: c.Probe}}
	go p.wait(ctx, func(exit Exit) { // ends with the process, which nothing ends for certain
		r.post(event{kind: exited, exit: exit, alone: p.gone()})
	})
	code = r.loop()
	r.entry.close()
	cancel()
	r.tasks.Wait()
	r.probe.close()
	return code, nil
}

// runner carries out what the core decides.
type runner struct {
	Command
	ctx     context.Context
	events  chan event
	tasks   sync.WaitGroup
	process *process
	entry   *keeper
	probe   *prober
}

// post hands an event to the loop, unless that has ended.
func (r *runner) post(e event) {
	select {
	case r.events <- e:
	case <-r.ctx.Done():
	}
}

func (r *runner) loop() (code int) {
	core := newCore(r.Settings, time.Now())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var e event
		select {
		case s := <-r.Signals:
			e = event{kind: signalled, signal: signalOf(s)}
		case e = <-r.events:
		case <-timer.C:
		}
		if e.kind == exited && !e.alone {
			r.tasks.Go(r.awaitGroup)
		}
		do := core.step(e, time.Now())
		r.carryOut(do)
		if do.exit {
			return do.code
		}
		if timer.Stop(); !do.wake.IsZero() {
			timer.Reset(time.Until(do.wake))
		}
	}
}

func (r *runner) carryOut(do do) {
	for _, line := range do.say {
		r.Say(line)
	}
	if do.pause || do.resume {
		r.entry.setHealth(do.resume)
	}
	if do.announce {
		r.tasks.Go(func() { r.post(event{kind: announced, err: r.entry.announce(r.ctx)}) })
	}
	if do.withdraw {
		r.tasks.Go(func() { r.post(event{kind: withdrawn, err: r.entry.withdraw(r.ctx)}) })
	}
	for _, s := range do.signals {
		r.process.signal(s)
	}
	if do.probe {
		r.tasks.Go(func() {
			found, err := r.probe.ask(r.ctx)
			r.post(event{kind: probed, health: found, err: err})
		})
	}
}

// awaitGroup tells when the command's process group is empty.
func (r *runner) awaitGroup() {
	poll := time.NewTicker(groupPoll)
	defer poll.Stop()
	for !r.process.gone() {
		select {
		case <-poll.C:
		case <-r.ctx.Done():
			return
		}
	}
	r.post(event{kind: groupGone})
}
