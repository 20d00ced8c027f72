// Package walk holds the tests that walk schedules, each in a bubble of its own, and the form in which they report.
package walk

import "github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"

// Report says how a schedule went. The tests write one for each schedule, as a line of JSON.
type Report struct {
	Seed     uint64          `json:"seed"`
	Virtual  string          `json:"virtual"` // the time that it took in the world
	Faults   int             `json:"faults"`
	Calls    int             `json:"calls"`
	Took     string          `json:"took"` // the time that it took outside
	Problems []check.Problem `json:"problems"`
	Trace    string          `json:"trace"` // a hash of it
}
