package schedule

import (
	"fmt"
	"strings"
)

// AwayName begins the names of the processes of the other region.
const AwayName = "away "

// Name returns the name of a process. Indices past the last one name the twins of the servers.
func (s Schedule) Name(process int) string {
	if s.Away {
		s.Away = false
		return AwayName + s.Name(process)
	}
	switch servers, callers := len(s.Servers), len(s.Callers); {
	case process < 0:
		return "a guest"
	case process < servers:
		return fmt.Sprintf("server %d", process)
	case process < servers+callers:
		return fmt.Sprintf("caller %d", process-servers)
	case process < s.Processes():
		return fmt.Sprintf("writer %d", process-servers-callers)
	default:
		return fmt.Sprintf("the twin of server %d", process-s.Processes())
	}
}

// Port is where servers listen until they move.
const Port = 9000

// Instance returns the instance id of a server, as it is until the server moves.
func (s Schedule) Instance(server int) string {
	if s.Servers[server].Named {
		return fmt.Sprintf("shop-%d", server)
	}
	return fmt.Sprintf("%s:%d", s.Host(server), Port)
}

// String describes the schedule in plain words, a line for each process and each step.
func (s Schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: etcd has %d member", s.Seed, s.Members)
	if s.Members > 1 {
		b.WriteString("s")
	}
	if s.Auth {
		b.WriteString(" and asks for passwords")
	}
	if s.Line > 0 {
		fmt.Fprintf(&b, ", %d ms away from everybody", s.Line)
	}
	if s.TTL > 0 {
		fmt.Fprintf(&b, ", leases live for %d s", s.TTL)
	}
	b.WriteString("\n")
	for i, v := range s.Servers {
		fmt.Fprintf(&b, "  %s %s\n", s.Name(i), v.words(s.Instance(i)))
	}
	for i, v := range s.Callers {
		fmt.Fprintf(&b, "  %s %s\n", s.Name(len(s.Servers)+i), v.words())
	}
	for i, v := range s.Writers {
		fmt.Fprintf(&b, "  %s writes %s entries by itself\n", s.Name(len(s.Servers)+len(s.Callers)+i), v.Layout)
	}
	for _, step := range s.Steps {
		fmt.Fprintf(&b, "%7.3f s  %s\n", step.At.Seconds(), s.Words(step))
	}
	if s.Other != nil {
		fmt.Fprintf(&b, "the other region: %v", s.Other)
	}
	return b.String()
}

// Words describes a step, in the words that the catalog has for its kind.
func (s Schedule) Words(step Step) string {
	k := find(step.Kind)
	if k == nil {
		return fmt.Sprintf("unknown kind %q", step.Kind)
	}
	return strings.NewReplacer(
		"{who}", s.Name(step.Who),
		"{whom}", s.Name(step.Whom),
		"{#who}", fmt.Sprint(step.Who),
		"{#whom}", fmt.Sprint(step.Whom),
		"{for}", step.For.String(),
		"{ms}", step.Milliseconds().String(),
		"{n}", fmt.Sprint(step.N),
		"{text}", step.Text,
		"{quoted}", fmt.Sprintf("%.80q", step.Text),
		"{again}", step.again(),
		"{as}", step.as(),
		"{ends}", [...]string{"stops", "is killed"}[min(step.N, 1)],
		"{because}", step.because(),
		"{goes}", [waysToGo]string{HomeLeaves: "leaves etcd", HomeStops: "stops", HomeIsKilled: "is killed"}[min(step.N, waysToGo-1)],
	).Replace(k.words)
}

// again describes how a server comes back.
func (s Step) again() string {
	words := "again"
	if s.N == 1 {
		words = "at another port"
	}
	if s.Text != "" {
		words += " " + s.Text
	}
	return words
}

// as describes whether etcd comes back as it was.
func (s Step) as() string {
	if s.Text == "" {
		return ""
	}
	return " " + s.Text
}

// because describes why requests are refused.
func (s Step) because() string {
	if s.N == Busy {
		return "for there are too many, if they write"
	}
	return "as unavailable"
}

func (v Server) words(instance string) string {
	words := []string{"is " + instance, "keeps itself in etcd by " + string(v.Mode)}
	if v.Unready > 0 {
		words = append(words, fmt.Sprintf("is unready for %d ms", v.Unready))
	}
	if len(v.Layouts) > 0 {
		words = append(words, "as "+strings.Join(v.Layouts, " and "))
	}
	if v.Version != "" {
		words = append(words, "version "+v.Version)
	}
	if v.Zone != "" {
		words = append(words, "zone "+v.Zone)
	}
	if v.Weight > 0 {
		words = append(words, fmt.Sprintf("weight %d", v.Weight))
	}
	if v.Newer {
		words = append(words, "has the newer method")
	}
	if v.Both {
		words = append(words, "serves both services")
	}
	if v.Second {
		words = append(words, "runs a second server")
	}
	return strings.Join(append(words, ofParts(v.Parts)...), ", ")
}

// ofParts describes a client of etcd, if there is anything to say of it.
func ofParts(parts bool) []string {
	if !parts {
		return nil
	}
	return []string{"puts its client of etcd together from parts"}
}

func (v Caller) words() string {
	words := []string{"calls"}
	if v.Zone != "" {
		words = append(words, "from zone "+v.Zone)
	}
	if v.Subset > 0 {
		words = append(words, fmt.Sprintf("a subset of %d", v.Subset))
	}
	if v.Policy != "" {
		words = append(words, "by "+v.Policy)
	}
	if v.Own != "" {
		words = append(words, "by its own "+v.Own)
	}
	if v.Snapshots {
		words = append(words, "keeps snapshots")
	}
	words = append(words, ofParts(v.Parts)...)
	return strings.Join(words, ", ")
}
