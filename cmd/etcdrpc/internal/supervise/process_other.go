//go:build !unix

package supervise

import (
	"context"
	"errors"
	"os"
)

// Signals returns the signals that a supervisor takes for its command.
func Signals() []os.Signal { return []os.Signal{os.Interrupt} }

// AdoptOrphans changes nothing on this system.
func AdoptOrphans() {}

func signalOf(os.Signal) Signal { return Terminate }

// process is a command that runs. Here there is none: nothing could ask it to end.
type process struct{}

func start([]string) (*process, int, error) {
	return nil, 1, errors.New("run does not work on this system, which has no signals and process groups")
}

func (*process) wait(context.Context, func(Exit)) {}
func (*process) signal(Signal)                    {}
func (*process) gone() bool                       { return true }
