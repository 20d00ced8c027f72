// Package modules lists the modules of this repository that users fetch, and so a release tags. All others are only built
// here, and find these by a replace directive.
package modules

import "path"

// Root is the path of the root module.
const Root = "github.com/etcdrpc/protoc-gen-go-etcd"

// A Module is one that users fetch.
type Module struct {
	Dir   string // in the repository, with slashes; "." for the root module
	Alone bool   // whether it requires none of the others, so that its API can be compared before they are released
}

// All lists each module after those that it may require.
var All = []Module{
	{Dir: ".", Alone: true},
	{Dir: "etcdtest", Alone: true},
	{Dir: "outlierdetection", Alone: true},
	{Dir: "connectetcd"},
	{Dir: "xds"},
	{Dir: "cmd/etcdrpc"},
}

// Path returns the module's path.
func (m Module) Path() string { return path.Join(Root, m.Dir) }

// File returns the path in the repository of a file of the module.
func (m Module) File(name string) string { return path.Join(m.Dir, name) }

// Tag returns the module's tag for a version.
func (m Module) Tag(version string) string { return path.Join(m.Dir, version) }
