package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// advised matches the commands that remedies name, with as many words as each takes.
var advised = regexp.MustCompile(`etcdrpc (?:policy set|drain|undrain)(?: --\S+)? \S+ \S+|etcdrpc (?:policy rm|policy get|ls|adopt)(?: --\S+)? \S+|etcdrpc doctor --\S+|etcdctl del \S+`)

// TestDoctor_Remedies does what the remedies of faults say: each command is taken, and once those that change something have
// run, the fault is there no more.
func TestDoctor_Remedies(t *testing.T) {
	t.Parallel()
	etcd, y := etcdtest.Start(t), newYard(t)
	good := tempFile(t, "good.json", []byte(`{"loadBalancingConfig":[{"etcd":{"route":[{"label":"lane"}]}}]}`))
	mended := make(map[doctor.Kind]bool)
	for n, tt := range faults {
		f := newFleet(t, etcd, y, fmt.Sprintf("remedy%d/", n))
		if tt.plant(f, tt.where); len(f.worn) > 0 {
			continue // its remedy is to wait
		}
		found, _ := f.doctor("--no-dial")
		at := slices.IndexFunc(found.Findings, tt.matches)
		if at < 0 {
			continue // it shows by a connection alone
		}
		changed := false
		for _, command := range advised.FindAllString(found.Findings[at].Fix, -1) {
			changed = f.run(strings.TrimRight(command, ",;"), good) || changed
		}
		if found, _ := f.doctor("--no-dial"); changed && slices.ContainsFunc(found.Findings, tt.matches) {
			t.Errorf("%s: the remedy is none: %+v", tt.name, found.Findings)
		}
		mended[tt.kind] = mended[tt.kind] || changed
	}
	for _, kind := range []doctor.Kind{
		doctor.KindBadKey, doctor.KindBadPolicy, doctor.KindDrain, doctor.KindLane, doctor.KindNoLease,
		doctor.KindNoMatch, doctor.KindOrphanPolicy, doctor.KindUnlinked, doctor.KindUnserved,
	} {
		if !mended[kind] {
			t.Errorf("no remedy of %s was run", kind)
		}
	}
}

// run runs a command of a remedy, and reports whether it is one that changes something.
func (f *planted) run(command, file string) (changes bool) {
	f.t.Helper()
	words := strings.Fields(command)
	if words[0] == "etcdctl" {
		deleteKey(f.t, f.etcd, words[2])
		return true
	}
	for n, word := range words {
		switch word {
		case "FILE":
			words[n] = file
		case "INSTANCE":
			return false // the reader's choice
		}
	}
	_, errs, code := executed(f.t, newApp(), at(f.etcd, words[1:]...)...)
	changes = !slices.Contains([]string{"get", "ls", "adopt", "doctor"}, words[1]) && words[2] != "get"
	if code != exitFine && (changes || code != exitWrong) {
		f.t.Errorf("%q ends with %d and says %s", command, code, errs)
	}
	return changes
}
