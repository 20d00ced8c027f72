package conformance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

const rootPassword = "root's"

// always is a right that every user keeps, so that its streams can be marked.
var always = etcd.Right{From: sentinel, Read: true, Write: true}

// TestScriptsWithAuth plays random scripts of several users whose rights change.
func TestScriptsWithAuth(t *testing.T) {
	long(t)
	s := secure(t)
	for seed := range seeds(3) {
		s.play(seed, *steps)
	}
	t.Log(s.summary())
}

// TestExpiredTokens lets tokens expire: a token that is used lives on, one that is not ends.
func TestExpiredTokens(t *testing.T) {
	long(t)
	const ttl, sweep = 4 * time.Second, time.Second // etcd looks for expired tokens once in a sweep
	s := secureWith(t, []etcdtest.Option{etcdtest.WithTokenTTL(ttl)}, etcd.WithTokenTTL(ttl))
	p := s.as("alice")
	s.grant("alice", []etcd.Right{{From: "a", Read: true, Write: true}})
	begun, used := time.Time{}, time.Time{}
	for time.Since(begun) < ttl+2*sweep || time.Since(used) > ttl/2 {
		if time.Since(used) > ttl/2 { // so slow a machine may come too late for one of the two alone: begin anew
			begun = time.Now()
			s.authenticate("alice", "alice")
		}
		used = time.Now()
		p.must(&pb.PutRequest{Key: []byte("a")})
		time.Sleep(ttl / 4)
	}
	time.Sleep(ttl + sweep*3/2)
	s.refuses(p, rpctypes.ErrGRPCInvalidAuthToken)
	s.authenticate("alice", "alice")
	p.must(&pb.PutRequest{Key: []byte("a")})
}

// TestAuthOffAndOn turns authentication off and on, and changes a password: tokens of before are of no use.
func TestAuthOffAndOn(t *testing.T) {
	long(t)
	s := secure(t)
	p, forged := s.as("alice"), s.as("forged")
	s.refuses(forged, rpctypes.ErrGRPCInvalidAuthToken)
	s.refuses(s.as(""), rpctypes.ErrGRPCUserEmpty)

	s.note("authentication off")
	must(s.admin.AuthDisable(t.Context()))(t)
	s.model.Protect()
	for _, p := range []*pair{p, forged, s.as("")} {
		p.must(&pb.PutRequest{Key: []byte("a")})
		p.call(&pb.AuthenticateRequest{Name: "alice", Password: "alice"})
	}

	s.note("authentication on")
	must(s.admin.AuthEnable(t.Context()))(t)
	s.protect()
	s.refuses(p, rpctypes.ErrGRPCInvalidAuthToken)
	s.authenticate("alice", "alice")
	p.must(&pb.PutRequest{Key: []byte(sentinel)})

	s.note("another password")
	must(s.admin.UserChangePassword(t.Context(), "alice", "other"))(t)
	s.passwords["alice"] = "other"
	s.protect()
	s.refuses(p, rpctypes.ErrGRPCInvalidAuthToken)
	s.authenticate("alice", "alice")
	s.authenticate("alice", "other")
	p.must(&pb.PutRequest{Key: []byte(sentinel)})

	s.note("alice removed")
	must(s.admin.UserDelete(t.Context(), "alice"))(t)
	delete(s.passwords, "alice")
	s.protect()
	s.refuses(p, rpctypes.ErrGRPCInvalidAuthToken)
	s.authenticate("alice", "other")
}

// must fails the test on the error of a call.
func must[T any](_ T, err error) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// refuses asks for all kinds of things, of which at least a put is refused.
func (s *secured) refuses(p *pair, why error) {
	s.t.Helper()
	if err := p.call(&pb.PutRequest{Key: []byte(sentinel)}).err; err == nil || err.Error() != why.Error() {
		s.t.Errorf("%s puts: %v, want %v", p.name, err, why)
	}
	d := &drawer{Rand: rand.New(rand.NewPCG(*first, 4)), p: p, secured: true}
	for range 50 {
		p.call(d.request())
	}
	p.refused(d.watch(0))
}

// secured is a pair with authentication.
type secured struct {
	*pair     // root's
	admin     *clientv3.Client
	model     *etcd.Cluster
	users     map[string]*pair
	passwords map[string]string
	rights    map[string][]etcd.Right
}

func secure(t *testing.T) *secured { return secureWith(t, nil) }

func secureWith(t *testing.T, opts []etcdtest.Option, modelOpts ...etcd.Option) *secured {
	users := []etcdtest.User{{Name: "alice", Password: "alice"}, {Name: "bob", Password: "bob"}}
	real := startEtcd(t, append(opts, etcdtest.WithAuth(rootPassword, users...))...)
	s := &secured{
		admin: real.Admin(), model: etcd.New(1, modelOpts...),
		users: map[string]*pair{}, rights: map[string][]etcd.Right{},
		passwords: map[string]string{"root": rootPassword, "alice": "alice", "bob": "bob"},
	}
	t.Cleanup(s.model.Close)
	s.pair = &pair{t: t, real: dialReal(t, real, 0), model: dialModel(t, s.model, 0), script: newScript()}
	for _, user := range users {
		s.grant(user.Name, nil)
		s.authenticate(user.Name, user.Password)
	}
	s.authenticate("root", rootPassword)
	s.pair = s.as("root")
	s.must(&pb.RangeRequest{Key: []byte("\x00"), CountOnly: true})
	return s
}

// protect gives the model the users with their passwords and rights.
func (s *secured) protect() {
	var users []etcd.User
	for name, password := range s.passwords {
		users = append(users, etcd.User{Name: name, Password: password, Root: name == "root", Rights: s.rights[name]})
	}
	s.model.Protect(users...)
}

// as is the pair to a user, to someone without a token if name is "", or to someone who made one up.
func (s *secured) as(name string) *pair {
	if p, ok := s.users[name]; ok {
		return p
	}
	p := &pair{t: s.t, name: name, real: s.pair.real.as(name), model: s.pair.model.as(name), script: s.script}
	if name == "" {
		p.name = "nobody"
	}
	s.users[name] = p
	return p
}

// authenticate has a user ask both for a token, which is used from then on.
func (s *secured) authenticate(name, password string) {
	s.t.Helper()
	if s.call(&pb.AuthenticateRequest{Name: name, Password: password}).err != nil {
		return
	}
	p := s.as(name)
	p.real.token, p.model.token = s.pair.real.issued, s.pair.model.issued
}

// grant gives a user rights in place of those that it has.
func (s *secured) grant(name string, rights []etcd.Right) {
	s.t.Helper()
	rights = append(slices.Clone(rights), always)
	s.history = append(s.history, name+" may "+describe(rights))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, r := range s.rights[name] {
		if _, err := s.admin.RoleRevokePermission(ctx, name, r.From, r.To); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, r := range rights {
		if _, err := s.admin.RoleGrantPermission(ctx, name, r.From, r.To, kind(r)); err != nil {
			s.t.Fatal(err)
		}
	}
	s.rights[name] = rights
	s.protect()
}

func kind(r etcd.Right) clientv3.PermissionType {
	switch {
	case r.Read && r.Write:
		return clientv3.PermissionType(clientv3.PermReadWrite)
	case r.Write:
		return clientv3.PermissionType(clientv3.PermWrite)
	default:
		return clientv3.PermissionType(clientv3.PermRead)
	}
}

// play is pair.play by several users.
func (s *secured) play(seed uint64, steps int) {
	s.t.Helper()
	s.seed, s.history = seed, nil
	random := rand.New(rand.NewPCG(seed, 1))
	users := []string{"root", "alice", "alice", "alice", "bob", "bob", "", "forged"}
	for _, name := range []string{"root", "alice", "bob"} {
		s.as(name).open(1)
	}
	asker := func() *drawer {
		return &drawer{Rand: random, p: s.as(users[random.IntN(len(users))]), secured: true}
	}
	for range steps {
		d := asker()
		switch known := d.p.alive != nil; {
		case d.chance(12):
			s.grant(pick(d, "alice", "bob"), d.rights())
		case d.chance(30):
			name := pick(d, "alice", "bob", "carol", "root", "")
			s.authenticate(name, pick(d, name, name, rootPassword, ""))
		case d.chance(60):
			s.fullFor(5, asker)
		case known:
			d.step()
		case d.chance(10):
			d.p.refused(d.watch(0))
		default:
			d.p.call(d.request())
		}
	}
	s.clear()
	for _, name := range []string{"root", "alice", "bob"} {
		s.as(name).settle()
		s.as(name).shut()
	}
	s.must(&pb.CompactionRequest{Revision: s.now})
	s.forgetLeases()
}

// fullFor has root raise the alarm that there is no space while users ask for things.
func (s *secured) fullFor(requests int, asker func() *drawer) {
	s.t.Helper()
	s.alarm(true)
	for range requests {
		d := asker()
		d.p.call(d.request())
	}
	s.alarm(false)
}

// refused starts a watch for someone who may not, on a stream of its own.
func (p *pair) refused(req *pb.WatchCreateRequest) {
	p.t.Helper()
	p.alive = []map[int64]bool{{}}
	for _, s := range p.sides() {
		s.streams = append(s.streams, s.open())
	}
	p.create(0, req)
	p.shut()
	p.alive = nil
}

// rights are up to three of those there are.
func (d *drawer) rights() []etcd.Right {
	all := []etcd.Right{
		{From: "\x00", To: "\x00"}, {From: "a"}, {From: "a", To: "b"}, {From: "a/", To: "a0"}, {From: "a/1", To: "b/1"},
		{From: "b", To: "c"}, {From: "b", To: "\x00"}, {From: "c"}, {From: "\xff"}, {From: "b/1"},
	}
	d.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	rights := all[:d.IntN(5)]
	for i := range rights {
		kind := pick(d, 1, 2, 3, 3)
		rights[i].Read, rights[i].Write = kind&1 != 0, kind&2 != 0
	}
	return rights
}

// describe says rights in words.
func describe(rights []etcd.Right) string {
	var b strings.Builder
	for _, r := range rights {
		fmt.Fprintf(&b, " %q to %q (read %t, write %t)", r.From, r.To, r.Read, r.Write)
	}
	return b.String()
}
