package console

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/steer"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Backend is what the console shows and changes. All texts in it may be hostile.
type Backend interface {
	// Fleet returns all services as they were seen last. It is not to be changed.
	Fleet() *Fleet
	// Service returns one service in full, nil if there is none at the key. It is not to be changed.
	Service(key string) *Service
	// Changed returns a channel that is closed at the next change of anything in the fleet.
	Changed() <-chan struct{}
	// Leases asks for the time left on leases.
	Leases(ctx context.Context, ids []int64) (map[int64]survey.LeaseTime, error)
	// Findings returns what is wrong with a service as far as it is known, and has it looked for again if that was
	// long ago, or if anew.
	Findings(key string, anew bool) Findings
	// History returns what etcd still knows of the past of a service.
	History(ctx context.Context, key string) (*History, error)
	// Propose works out an edit, which changes nothing where it has been done already.
	Propose(ctx context.Context, asked steer.Asked) (*steer.Edit, error)
	// Apply puts an edit in force. The error is [store.ErrChanged] if somebody else was faster.
	Apply(ctx context.Context, e *steer.Edit) error
}

// Fleet is all services.
type Fleet struct {
	Revision int64     // of etcd
	Services []Summary // sorted by key
	Notes    []string  // what limits the view, such as the rights of the user
	Trouble  string    // why this is old or empty; "": it is not
	Latest   *Change   // nil: nothing has changed since the console began
}

// Summary returns the line of a service, nil if there is none at the key.
func (f *Fleet) Summary(key string) *Summary {
	at, ok := slices.BinarySearchFunc(f.Services, key, func(s Summary, key string) int { return strings.Compare(s.Key, key) })
	if !ok {
		return nil
	}
	return &f.Services[at]
}

// Counts are numbers of instances, each address once.
type Counts struct{ Registered, Drained, Leaving, Malformed int }

// Total returns the number of all instances.
func (c Counts) Total() int { return c.Registered + c.Drained + c.Leaving + c.Malformed }

// Policy is what there is of a live config.
type Policy string

// The states of a live config. "" is none.
const (
	PolicyInForce Policy = "in force"
	PolicyRefused Policy = "refused"         // clients do not go by it
	PolicyClosed  Policy = "may not be read" // if there is one
)

// Summary is one service in a line.
type Summary struct {
	Key      string
	Version  string // differs whenever the service does
	Counts   Counts
	Zones    []string // sorted
	Versions []string // sorted
	Weight   uint64   // of all instances that say one
	Policy   Policy
	Leader   string   // the instance that leads; "": none is known
	Lanes    []string // sorted, that instances make
	Traffic  []Split  // the groups that the live config divides the calls among
	Findings []string // the kinds of what is wrong, each once
	Failing  bool     // some of that has calls fail or go astray
	Text     string   // what a search looks at besides the key, in lower case
}

// Ill reports whether somebody is to look at the service.
func (s *Summary) Ill() bool { return s.urgency() > 0 }

// urgency is the higher the sooner somebody is to look at the service; 0: nobody is.
func (s *Summary) urgency() int {
	switch {
	case s.Failing || s.Policy == PolicyRefused:
		return 2
	case len(s.Findings) > 0:
		return 1
	}
	return 0
}

// Canary returns the group that steps move, while the calls are divided; nil: they are not.
func (s *Summary) Canary() *Split {
	called := slices.DeleteFunc(slices.Clone(s.Traffic), func(t Split) bool { return t.Weight == 0 })
	if len(called) < 2 {
		return nil
	}
	return &called[canary(called)]
}

// Service is one service in full.
type Service struct {
	Summary
	Editable  bool // its key is one that clients can be given
	Instances []Instance
	Config    Config
	Notes     []string // on the instances' shares and states
	Recent    []Change // since the console began, the latest first
}

// The states of instances besides those of survey.
const (
	Double   survey.State = "double" // another entry of the same address stands for both
	Expiring survey.State = "expiring"
)

// Instance is one entry of a service.
type Instance struct {
	ID, Addr, Version, Zone, Layout string

	EtcdKey  string       // in full
	Weight   uint32       // 0: it says none
	State    survey.State // as far as it shows without its lease
	Listed   bool         // the live config names it to be drained, which clients may ignore
	Problem  string       // why it is malformed, or not called, or called though it is listed
	Lease    int64        // 0: none
	Metadata [][2]string
	Share    float64 // of the calls by the live policy, in percent; below 0: not known
	Lanes    []string
	Leads    bool
}

// Config is the live config of a service.
type Config struct {
	Text     string // for people; cut if it is far too long
	Revision int64  // 0: there is none
	Reason   string // why it was changed last; "": not known
	Problem  string // why clients do not go by it
	Whole    bool   // Text is all of it
	Balances bool   // it says how to balance
	Splits   []Split
	Proposed bool // Splits are those that could be begun
	Unsaid   int  // the instances that would be in none of these
}

// Split is a group of instances with its share of the calls.
type Split struct {
	serviceconfig.Split
	Percent float64 // of the calls
	Empty   bool    // it has no instance that may be called
}

// numbered is a version that is newer than another by its numbers, such as v2 and 1.10.0-rc1, and no hash.
var numbered = regexp.MustCompile(`^v?[0-9]+([.+_-]|$)`)

// canary returns which of some groups is to have more of the calls, or to lose them: the newest where all are numbered versions,
// however much it has, and else the one with the least, the first of those that have as much.
func canary(groups []Split) int {
	versions, weights := make([]string, len(groups)), make([]uint32, len(groups))
	byVersion := true
	for n, g := range groups {
		versions[n], weights[n] = g.Match["version"], g.Weight
		byVersion = byVersion && len(g.Match) == 1 && numbered.MatchString(versions[n])
	}
	if byVersion {
		return slices.Index(versions, slices.MaxFunc(versions, survey.CompareNames))
	}
	return slices.Index(weights, slices.Min(weights))
}

// Shared returns groups with what their weights are of all of the calls.
func Shared(groups []serviceconfig.Split) (all []Split) {
	sum := 0.0
	for _, g := range groups {
		sum += float64(g.Weight)
	}
	for _, g := range groups {
		s := Split{Split: g}
		if sum > 0 {
			s.Percent = 100 * float64(g.Weight) / sum
		}
		all = append(all, s)
	}
	return all
}

// Change is one thing that happened to a service.
type Change struct {
	Time     time.Time // zero: not known
	Revision int64     // 0: not known
	Key      string    // in full
	What     string
	Service  string
}

// What happens to a key.
const (
	ChangePut     = "put"
	ChangeChanged = "changed"
	ChangeDeleted = "deleted"
)

// Findings are those of one service.
type Findings struct {
	At      time.Time // zero: never looked yet
	Running bool
	Err     string
	All     []doctor.Finding
}

// History is the past of a service.
type History struct {
	From    int64    // the first revision that etcd still has; 0: not known
	Changes []Change // the latest first
	Partial string   // why that is not all; "": it is
}
