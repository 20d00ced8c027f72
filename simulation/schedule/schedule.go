// Package schedule draws the schedules of simulated worlds from seeds, prints them in words, and shrinks them to the faults
// that matter.
package schedule

import "time"

// Schedule is a world and the faults in it. It encodes as JSON, so that a failing one can be kept.
type Schedule struct {
	Seed    uint64   `json:"seed"`    // seeds the traffic, too
	Members int      `json:"members"` // of the etcd cluster
	Auth    bool     `json:"auth,omitempty"`
	Servers []Server `json:"servers"`
	Callers []Caller `json:"callers"`
	Writers []Writer `json:"writers,omitempty"`
	Steps   []Step   `json:"steps"` // in the order of their times
}

// Server is a process that serves, and keeps itself in etcd in one of three ways.
type Server struct {
	Mode    Mode     `json:"mode"`
	Layouts []string `json:"layouts,omitempty"` // none: the service's own
	Version string   `json:"version,omitempty"`
	Zone    string   `json:"zone,omitempty"`
	Weight  uint32   `json:"weight,omitempty"`
	Newer   bool     `json:"newer,omitempty"` // serves a method that the others do not have
	Named   bool     `json:"named,omitempty"` // has an instance id of its own, not its address
	Both    bool     `json:"both,omitempty"`  // serves the second service as well
}

// The layouts, by the names that package runtime has for them.
const (
	EndpointJSON = "endpoint_json"
	Plain        = "plain"
	GoZero       = "go_zero"
	Kratos       = "kratos"
	Kitex        = "kitex"
)

// Mode is how a server keeps itself in etcd.
type Mode string

// The modes.
const (
	Serve    Mode = "serve"    // Server.Serve
	Announce Mode = "announce" // Server.Announce and Withdraw beside a gRPC server of its own
	Register Mode = "register" // Registry.Register
)

// Caller is a process that calls the services.
type Caller struct {
	Policy string `json:"policy,omitempty"` // the service config that its proto gives
	Zone   string `json:"zone,omitempty"`
	Subset int    `json:"subset,omitempty"`
}

// Writer is a server that keeps itself in etcd by code of its own: a lease, a put and keepalives.
type Writer struct {
	Layout string `json:"layout"`
}

// Step is a fault, or something that people do to processes and to etcd.
type Step struct {
	At   time.Duration `json:"at"`            // since the world began
	For  time.Duration `json:"for,omitempty"` // until it is undone, for kinds that are
	Kind Kind          `json:"kind"`
	Who  int           `json:"who,omitempty"`  // the process or member that it happens to
	Whom int           `json:"whom,omitempty"` // the second one, for kinds with two
	N    int           `json:"n,omitempty"`    // milliseconds, a weight, or 1 for another port, by kind
	Text string        `json:"text,omitempty"` // a value, a method or a right, by kind
}

// Milliseconds returns N as a time, for the kinds where it is one.
func (s Step) Milliseconds() time.Duration { return time.Duration(s.N) * time.Millisecond }

// Processes returns how many processes there are: servers, then callers, then writers. A step names a process by its place
// among them.
func (s Schedule) Processes() int { return len(s.Servers) + len(s.Callers) + len(s.Writers) }
