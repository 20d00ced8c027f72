package election

// Source has the elections of this process's instances.
type Source interface {
	// Elections returns the elections for a service key. changed is closed when these or their leaders may have changed. On an
	// error, there will be no more elections.
	Elections(key string) (all []*Election, changed <-chan struct{}, err error)
}

// SourceOf returns the source of a registry or a server of package runtime, which sets it. Package leader imports
// runtime, whose types have no exported method for this.
var SourceOf func(of any) Source

// TokenHeader is the request metadata that has the token of the leader that a call is for, in decimal.
const TokenHeader = "etcd-leader-token"

// RefusedTrailer is the response metadata of a call that an instance has refused because it does not lead with the
// token that the call is for. Its handler has not run. Its value is the call's CallHeader: a handler may pass on the trailer of
// its own call.
const RefusedTrailer = "etcd-leader-refused"

// CallHeader is the request metadata by which a caller distinguishes a refusal of its own call from one that was passed on.
const CallHeader = "etcd-leader-call"
