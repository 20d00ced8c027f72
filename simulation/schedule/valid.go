package schedule

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Check returns an error that says what no world can carry out, if there is anything.
func (s Schedule) Check() error {
	if s.Members != 1 && s.Members != 3 {
		return fmt.Errorf("etcd has %d members, not 1 or 3", s.Members)
	}
	if len(s.Servers) == 0 || (len(s.Callers) == 0) != s.Away {
		return errors.New("a world has a server and a caller at least, and another region no caller")
	}
	if err := errors.Join(s.checkProcesses(), s.checkOther()); err != nil {
		return err
	}
	for i, step := range s.Steps {
		if err := s.checkStep(step); err != nil {
			return fmt.Errorf("step %d of %d: %w", i+1, len(s.Steps), err)
		}
		for j, other := range s.Steps[:i] {
			if clash(s, step, other) {
				return fmt.Errorf("steps %d and %d of %d hold the same thing at the same time: %s, and %s", j+1, i+1, len(s.Steps),
					s.Words(other), s.Words(step))
			}
		}
	}
	return nil
}

func (s Schedule) checkProcesses() error {
	if s.TTL < 0 || s.Line < 0 {
		return fmt.Errorf("leases cannot live for %d s, nor etcd be %d ms away", s.TTL, s.Line)
	}
	for i, v := range s.Servers {
		if !slices.Contains([]Mode{Serve, Announce, Register}, v.Mode) {
			return fmt.Errorf("%s has no mode %q", s.Name(i), v.Mode)
		}
		if v.Second && (v.Mode == Register || slices.Contains(v.Layouts, GoZero)) {
			return fmt.Errorf("%s can have no second server", s.Name(i))
		}
		if v.Unready < 0 || v.Unready > 0 && v.Mode != Serve {
			return fmt.Errorf("%s cannot be unready for %d ms", s.Name(i), v.Unready)
		}
		for _, layout := range v.Layouts {
			if !is(layout) {
				return fmt.Errorf("%s has no layout %q", s.Name(i), layout)
			}
		}
	}
	for i, v := range s.Callers {
		name := s.Name(len(s.Servers) + i)
		if v.Subset < 0 {
			return fmt.Errorf("%s has no subset %d", name, v.Subset)
		}
		for _, config := range []string{v.Policy, v.Own} {
			if _, _, err := Layers(cmp.Or(config, "{}")); err != nil {
				return fmt.Errorf("%s has no policy %q: %w", name, config, err)
			}
		}
	}
	for i, v := range s.Writers {
		if !is(v.Layout) {
			return fmt.Errorf("%s has no layout %q", s.Name(len(s.Servers)+len(s.Callers)+i), v.Layout)
		}
	}
	return nil
}

func (s Schedule) checkStep(step Step) error {
	k := find(step.Kind)
	if k == nil {
		return fmt.Errorf("there is no kind %q", step.Kind)
	}
	if step.At < 0 || step.For < 0 || step.N < 0 || k.longest == 0 && step.For > 0 {
		return fmt.Errorf("%s at %v for %v, with %d, cannot be", step.Kind, step.At, step.For, step.N)
	}
	if s.Other == nil && slices.ContainsFunc(regionKinds, func(of kind) bool { return of.kind == step.Kind }) {
		return fmt.Errorf("%s: there is no other region", step.Kind)
	}
	if step.Kind == HomeGoes && step.N >= waysToGo {
		return fmt.Errorf("%s: nobody goes in the way %d", step.Kind, step.N)
	}
	who, whom := s.about(step.Kind)
	if !who.has(step.Who) {
		return fmt.Errorf("%s: who is %d, and there is %v", step.Kind, step.Who, who)
	}
	if !whom.has(step.Whom) {
		return fmt.Errorf("%s: whom is %d, and there is %v", step.Kind, step.Whom, whom)
	}
	return s.checkText(step)
}

// indices are those in [from, to) that a step may name.
type indices struct {
	what     string
	from, to int
}

func (r indices) has(i int) bool { return r.from <= i && i < r.to }

func (r indices) String() string {
	if r.from == r.to {
		return "no " + r.what
	}
	return fmt.Sprintf("%s %d to %d", r.what, r.from, r.to-1)
}

// about returns what steps of a kind may happen to. Where they name nobody, that is 0.
func (s Schedule) about(k Kind) (who, whom indices) {
	callers, writers := len(s.Servers), len(s.Servers)+len(s.Callers)
	member := indices{"member", 0, s.Members}
	server, caller := indices{"server", 0, callers}, indices{"caller", callers, writers}
	process, nobody := indices{"process", 0, s.Processes()}, indices{"nobody but", 0, 1}
	switch k {
	case MemberStops, MemberIsolated, MemberLags, LeaderChanges:
		return member, nobody
	case RightsRefused, AnswersLost, AnswersLate, RequestsLate, RequestsFail,
		CutFromEtcd, StalledFromEtcd, SlowToEtcd, ResetFromEtcd:
		return process, nobody
	case StalledFromMember:
		return process, member
	case CutFromServer, StalledFromServer, ResetFromServer:
		return caller, process
	case SlowToServers, CallerRestarts, CallerIdles, CallerAlone, CallerRefused, DiskFails, DiskDamaged,
		CutFromAway, StalledFromAway:
		return caller, nobody
	case EntryDeleted, EntryOverwritten, EntryReplaced, LeaseRevoked,
		ServerKilled, ServerRestarts, ServerFails, ServerPauses, ServerUpdates, TwinStarts:
		return server, nobody
	case EntryAddedBy:
		return indices{"process of ours", 0, writers}, nobody
	case WriterDies:
		return indices{"writer", writers, s.Processes()}, nobody
	}
	return nobody, nobody
}

// checkText returns an error if a step's text is none of those that its kind knows.
func (s Schedule) checkText(step Step) error {
	var known []string
	switch step.Kind {
	case Restore:
		known = []string{"", AsNew, Bumped}
	case RightsRefused, CallerRefused:
		known = []string{Read, Write, ReadConfig, ReadVotes, WriteVotes}
	case AnswersLost, AnswersLate, RequestsLate, RequestsFail:
		known = slices.Concat(serverMethods, callerMethods, writerMethods)
	case ServerPauses:
		known = []string{"", ForGood}
	case ServerRestarts:
		known = []string{"", WithNewer, WithoutNewer}
	default:
		return nil
	}
	if !slices.Contains(known, step.Text) {
		return fmt.Errorf("%s: the text is %q, not one of %q", step.Kind, step.Text, known)
	}
	return nil
}
