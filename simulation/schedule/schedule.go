// Package schedule draws the schedules of simulated worlds from seeds, prints
// them in words, and shrinks them to the relevant faults.
package schedule

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"
)

// Schedule is a simulated world with its faults. Failing schedules are kept as
// JSON.
type Schedule struct {
	Seed    uint64 `json:"seed"`    // also seeds the traffic
	Members int    `json:"members"` // the number of members of etcd
	Auth    bool   `json:"auth,omitempty"`

	// the delay in milliseconds each way between etcd and processes
	Line int `json:"line,omitempty"`

	TTL     int      `json:"ttl,omitempty"` // the TTL of leases in seconds; 0: ShortTTL
	Servers []Server `json:"servers"`
	Callers []Caller `json:"callers"`
	Writers []Writer `json:"writers,omitempty"`
	Steps   []Step   `json:"steps"` // in the order of their times

	Other *Schedule `json:"other,omitempty"` // the fallback region of callers
	Away  bool      `json:"away,omitempty"`  // this is the fallback region
}

// Server is a process with a server, which keeps itself in etcd in one of three
// modes.
type Server struct {
	Mode    Mode     `json:"mode"`
	Layouts []string `json:"layouts,omitempty"` // by default the layout of the service
	Version string   `json:"version,omitempty"`
	Zone    string   `json:"zone,omitempty"`
	Weight  uint32   `json:"weight,omitempty"`
	Newer   bool     `json:"newer,omitempty"` // serves a method that other servers lack
	Named   bool     `json:"named,omitempty"` // the instance id is not the address
	Both    bool     `json:"both,omitempty"`  // serves the second service as well

	// a second server of the shop runs in the process, on the same registry
	Second bool `json:"second,omitempty"`

	// milliseconds of NOT_SERVING at the start of each incarnation
	Unready int `json:"unready,omitempty"`

	// the etcd client is made from separate parts
	Parts bool `json:"parts,omitempty"`
}

// Servers returns the number of servers in the process.
func (v Server) Servers() int {
	if v.Second {
		return 2
	}

	return 1
}

// Mode is how a server keeps itself in etcd.
type Mode string

// The modes.
const (
	Serve    Mode = "serve"    // Server.Serve
	Announce Mode = "announce" // Server.Announce and Withdraw, beside a gRPC server
	Register Mode = "register" // Registry.Register
)

// Caller is a process that calls the services.
type Caller struct {
	Policy string `json:"policy,omitempty"` // the service config of its proto

	// the caller's own service config, which overrides Policy's fields
	Own string `json:"own,omitempty"`

	Zone      string `json:"zone,omitempty"`
	Subset    int    `json:"subset,omitempty"`
	Snapshots bool   `json:"snapshots,omitempty"` // the caller has a snapshot directory

	// the etcd client is made from separate parts
	Parts bool `json:"parts,omitempty"`
}

// Config returns the service config that the caller uses while etcd has no live
// config.
func (c Caller) Config() string {
	if c.Own == "" || c.Policy == "" {
		return c.Policy + c.Own
	}

	fields := map[string]json.RawMessage{}
	for _, config := range []string{c.Policy, c.Own} {
		if err := json.Unmarshal([]byte(config), &fields); err != nil {
			panic(err) // an invalid schedule
		}
	}

	config, err := json.Marshal(fields)
	if err != nil {
		panic(err) // the config was parsed from JSON
	}

	return string(config)
}

// Writer is a server that uses etcd without the runtime: a lease, a put and
// keepalives.
type Writer struct {
	Layout string `json:"layout"`
}

// Step is a fault, or an action of an operator on processes or etcd.
type Step struct {
	At   time.Duration `json:"at"`            // since the world began
	For  time.Duration `json:"for,omitempty"` // the duration, for kinds with an end
	Kind Kind          `json:"kind"`
	Who  int           `json:"who,omitempty"` // the affected process or member

	// the second process or member, for kinds with two
	Whom int `json:"whom,omitempty"`

	// by kind: milliseconds, a weight, 1 for another port, or Busy
	N int `json:"n,omitempty"`

	// by kind: a value, a method, a right, or a variant
	Text string `json:"text,omitempty"`
}

// ShortTTL is the default TTL of leases.
const ShortTTL = 5 * time.Second

// LeaseTTL returns the TTL of the leases of servers.
func (s Schedule) LeaseTTL() time.Duration {
	return cmp.Or(time.Duration(s.TTL)*time.Second, ShortTTL)
}

// Milliseconds returns N, in milliseconds, as a duration.
func (s Step) Milliseconds() time.Duration {
	return time.Duration(s.N) * time.Millisecond
}

// Processes returns the number of servers, callers and writers. Steps number
// them in this order.
func (s Schedule) Processes() int {
	return len(s.Servers) + len(s.Callers) + len(s.Writers)
}

// Load reads a schedule from a file. It rejects unknown fields, which another
// version may have written.
func Load(path string) (Schedule, error) {
	var s Schedule

	text, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}

	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()

	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}

	for i, step := range s.Steps {
		if !slices.ContainsFunc(catalog, func(k kind) bool {
			return k.kind == step.Kind
		}) {
			return s, fmt.Errorf("%s: step %d: unknown kind %q", path, i, step.Kind)
		}
	}

	if len(s.Servers) == 0 || s.Members != 1 && s.Members != 3 {
		return s, fmt.Errorf("%s: want servers, and 1 or 3 members of etcd", path)
	}

	return s, nil
}

// The addresses of hosts. Each region has its own network, and the networks are
// connected.

// region returns the third number of the addresses of a region.
func (s Schedule) region() int {
	if s.Away {
		return 1
	}

	return 0
}

// MemberHost returns the host of a member of etcd.
func (s Schedule) MemberHost(member int) string {
	return fmt.Sprintf("10.1.%d.%d", s.region(), member+1)
}

// Host returns the host of a process.
func (s Schedule) Host(process int) string {
	return fmt.Sprintf("10.2.%d.%d", s.region(), process+1)
}

// firstIncarnation plus the number of an incarnation is the second number of
// its dialing address.
const firstIncarnation = 100

// DialHost returns the host that an incarnation of a process dials from. Each
// incarnation has its own host, so that a dead incarnation can be cut off for
// good.
func (s Schedule) DialHost(process, incarnation int) string {
	return fmt.Sprintf("10.%d.%d.%d", firstIncarnation+incarnation, s.region(), process+1)
}

// ProcessAt returns the process that dials from a host, -1 if there is none in
// the region.
func (s Schedule) ProcessAt(host string) int {
	var incarnation, region, process int
	n, err := fmt.Sscanf(host, "10.%d.%d.%d", &incarnation, &region, &process)
	if n != 3 || err != nil || incarnation <= firstIncarnation || region != s.region() {
		return -1
	}

	return process - 1
}
