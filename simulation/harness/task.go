package harness

// task is a call that goes on in the background.
type task struct {
	done chan struct{}
	err  error
}

func newTask(call func() error) *task {
	t := &task{done: make(chan struct{})}
	go func() {
		defer close(t.done)
		t.err = call()
	}()
	return t
}

// wait waits until the task is over, and returns how it ended. A nil task is over.
func (t *task) wait() error {
	if t == nil {
		return nil
	}
	<-t.done
	return t.err
}

func (t *task) over() bool {
	if t == nil {
		return true
	}
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}
