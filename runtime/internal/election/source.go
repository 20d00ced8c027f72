package election

// Source has the elections in which instances of this process stand.
type Source interface {
	// Elections returns those for a service key. changed is closed when there may be others, or others lead. The error says
	// that there will never be any more.
	Elections(key string) (all []*Election, changed <-chan struct{}, err error)
}

// SourceOf returns the source of a registry or a server of package runtime, which sets it. Package leader stands above
// that package, and these have no exported method for it.
var SourceOf func(of any) Source

// TokenHeader is the request metadata that has the token of the leader that a call is for, in decimal.
const TokenHeader = "etcd-leader-token"

// RefusedTrailer is the response metadata of a call that an instance has refused because it does not lead with the
// token that the call is for. Its handler has not run. Its value is that of CallHeader: a handler may pass on the trailer of a
// call of its own.
const RefusedTrailer = "etcd-leader-refused"

// CallHeader is the request metadata by which a caller knows a refusal of its own call from one that was passed on.
const CallHeader = "etcd-leader-call"
