package etcd

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// User is who may do what while auth is on.
type User struct {
	Name, Password string
	Root           bool
	Rights         []Right
}

// Right is a right to the keys in [From, To), to the key From alone when To is "", and to all keys from From on when To
// is "\x00".
type Right struct {
	From, To    string
	Read, Write bool
}

// auth is who may do what, and the tokens given so far. Without users it is off.
type auth struct {
	users    map[string]User
	revision uint64
	tokens   map[string]token
	given    int
	ttl      time.Duration // of a token that is not used
}

// token stands for a user who has given a password.
type token struct {
	user   string
	number int
	expiry time.Time
}

// clone returns a copy without tokens, which are in memory alone.
func (a *auth) clone() auth {
	return auth{users: maps.Clone(a.users), revision: a.revision, given: a.given, ttl: a.ttl}
}

func (a *auth) on() bool { return len(a.users) > 0 }

// protect replaces the users. Tokens of those who remain, with their password, stay valid.
func (a *auth) protect(users []User) {
	old := a.users
	a.users = make(map[string]User, len(users))
	for _, u := range users {
		a.users[u.Name] = u
	}
	a.revision++
	maps.DeleteFunc(a.tokens, func(_ string, t token) bool {
		u, ok := a.users[t.user]
		return !ok || u.Password != old[t.user].Password
	})
}

// authenticate returns a token for a password.
func (a *auth) authenticate(now time.Time, name, password string) (string, error) {
	if !a.on() {
		return "", errAuthNotEnabled
	}
	if u, ok := a.users[name]; !ok || u.Password != password {
		return "", errAuthFailed
	}
	if a.tokens == nil {
		a.tokens = map[string]token{}
	}
	a.given++
	t := fmt.Sprintf("token-of-%s.%d", name, a.given)
	a.tokens[t] = token{name, a.given, now.Add(a.ttl)}
	return t, nil
}

// identify returns the user of a token, "" without one or while auth is off. The first tokens, as many as unknown says, were
// given before the member was started, which does not know them.
func (a *auth) identify(now time.Time, given string, unknown int) (string, error) {
	if !a.on() || given == "" {
		return "", nil
	}
	t, ok := a.tokens[given]
	if !ok || t.number <= unknown || now.After(t.expiry) {
		return "", errInvalidToken
	}
	t.expiry = now.Add(a.ttl)
	a.tokens[given] = t
	return t.user, nil
}

// may returns an error if who may not read, or write, the keys in sp, or if rights have changed since who asked.
func (a *auth) may(who requester, sp span, write bool) error {
	switch {
	case !a.on() || who.root:
		return nil
	case who.user == "":
		return errUserEmpty
	case who.rights < a.revision:
		return errOldRights
	}
	u, ok := a.users[who.user]
	if !ok || !u.Root && !covered(u.Rights, sp, write) {
		return errPermissionDenied
	}
	return nil
}

// admin returns an error if who is no administrator.
func (a *auth) admin(who requester) error {
	if !a.on() || who.root {
		return nil
	}
	if who.user == "" {
		return errUserEmpty
	}
	if !a.users[who.user].Root {
		return errPermissionDenied
	}
	return nil
}

// known returns an error if who has given no credentials, where they are needed.
func (a *auth) known(who requester) error {
	if a.on() && !who.root && who.user == "" {
		return errUserEmpty
	}
	return nil
}

// covered reports whether rights, taken together, cover all of sp.
func covered(rights []Right, sp span, write bool) bool {
	var have []span
	for _, r := range rights {
		if write && r.Write || !write && r.Read {
			have = append(have, interval(span{r.From, r.To}))
		}
	}
	slices.SortFunc(have, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	want := interval(sp)
	for _, h := range have {
		if h.from > want.from {
			return false
		}
		if !before(want.from, h.to) {
			continue
		}
		if h.to == "" || want.to != "" && want.to <= h.to {
			return true
		}
		want.from = h.to
	}
	return false
}

// interval returns sp with its real end, "" for none.
func interval(sp span) span {
	switch sp.to {
	case "":
		return span{sp.from, sp.from + "\x00"}
	case "\x00":
		return span{sp.from, ""}
	}
	return sp
}

// before reports whether key is before end, "" for none.
func before(key, end string) bool { return end == "" || key < end }

// mayPut returns an error if who may not put. Attaching a key to a lease takes the right to revoke it.
func (s *state) mayPut(who requester, r *pb.PutRequest) error {
	if err := s.auth.may(who, span{from: string(r.Key)}, true); err != nil {
		return err
	}
	return s.mayChangeLease(who, r.Lease)
}

func (s *state) mayDelete(who requester, r *pb.DeleteRangeRequest) error {
	return s.auth.may(who, spanOf(r.Key, r.RangeEnd), true)
}

// mayTxn returns an error if who may not do all of a transaction, whichever branch is taken.
func (s *state) mayTxn(who requester, r *pb.TxnRequest) error {
	if !s.auth.on() {
		return nil
	}
	for _, c := range r.GetCompare() {
		if err := s.auth.may(who, spanOf(c.Key, c.RangeEnd), false); err != nil {
			return err
		}
	}
	for _, ops := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range ops {
			if err := s.mayOp(who, op); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *state) mayOp(who requester, op *pb.RequestOp) error {
	switch r := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return s.auth.may(who, spanOf(r.RequestRange.Key, r.RequestRange.RangeEnd), false)
	case *pb.RequestOp_RequestPut:
		return s.mayPut(who, r.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return s.mayDelete(who, r.RequestDeleteRange)
	}
	return nil
}

// mayChangeLease returns an error if who may not end a lease: that takes the right to write all its keys.
func (s *state) mayChangeLease(who requester, id int64) error {
	return s.mayLease(who, id, true)
}

func (s *state) mayLease(who requester, id int64, write bool) error {
	l := s.lessor.leases[id]
	if l == nil || s.auth.admin(who) == nil {
		return nil
	}
	for _, key := range l.sortedKeys() {
		if err := s.auth.may(who, span{from: key}, write); err != nil {
			return err
		}
	}
	return nil
}
