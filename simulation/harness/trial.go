package harness

import "slices"

// trial is a schedule under way: a world, and the processes in it.
type trial struct {
	*world
	servers []*server
	twins   []*server // by server: who takes its instance id
	callers []*caller
	writers []*writer
	other   *trial // of the region that callers fall back on; nil: there is none
}

func newTrial(w *world) *trial {
	t := &trial{world: w}
	if w.plan.Other != nil {
		t.other = newTrial(newWorld(*w.plan.Other, w.network))
	}
	for i, spec := range w.plan.Servers {
		t.servers = append(t.servers, newServer(w, i, spec))
		t.twins = append(t.twins, newTwin(w, i))
	}
	for i, spec := range w.plan.Callers {
		c := newCaller(w, t.other, len(t.servers)+i, spec)
		t.callers = append(t.callers, c)
	}
	for i, spec := range w.plan.Writers {
		t.writers = append(t.writers, newWriter(w, len(t.servers)+len(t.callers)+i, spec))
	}
	return t
}

// all returns the servers of all processes.
func (t *trial) all() []*server {
	var all []*server
	for _, s := range t.servers {
		all = append(all, s.all()...)
	}
	return all
}

// process returns the process with an index, as steps name it.
func (t *trial) process(i int) *process {
	switch {
	case i < len(t.servers):
		return t.servers[i].process
	case i < len(t.servers)+len(t.callers):
		return t.caller(i).process
	default:
		return t.writer(i).process
	}
}

// caller returns the caller with an index among all processes.
func (t *trial) caller(i int) *caller { return t.callers[i-len(t.servers)] }

// writer returns the writer with an index among all processes.
func (t *trial) writer(i int) *writer { return t.writers[i-len(t.servers)-len(t.callers)] }

// addressOf returns the address of a life of a server, "" if it has ended.
func (t *trial) addressOf(id string) string {
	if t.other != nil && abroad(id) {
		return t.other.addressOf(id)
	}
	all := t.all()
	if i := slices.IndexFunc(all, func(s *server) bool { return s.id == id }); i >= 0 {
		return all[i].addr
	}
	if i := slices.IndexFunc(t.writers, func(o *writer) bool { return o.id == id }); i >= 0 {
		return t.writers[i].addr()
	}
	return ""
}
