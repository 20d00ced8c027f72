package world

// errand is a call that goes on in the background.
type errand struct {
	done chan struct{}
	err  error
}

func newErrand(call func() error) *errand {
	e := &errand{done: make(chan struct{})}
	go func() {
		defer close(e.done)
		e.err = call()
	}()
	return e
}

// wait waits until the errand is over, and returns how it ended. A nil errand is over.
func (e *errand) wait() error {
	if e == nil {
		return nil
	}
	<-e.done
	return e.err
}

func (e *errand) over() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}
