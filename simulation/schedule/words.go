package schedule

import (
	"fmt"
	"strings"
)

// Name returns the name of a process. Behind the last of them come the twins of the servers.
func (s Schedule) Name(process int) string {
	switch servers, callers := len(s.Servers), len(s.Callers); {
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

// Host returns the address of the host on which a process runs.
func (s Schedule) Host(process int) string { return fmt.Sprintf("10.2.0.%d", process+1) }

// Port is where servers listen until they move.
const Port = 9000

// Instance returns the instance id of a server, as it is until the server moves.
func (s Schedule) Instance(server int) string {
	if s.Servers[server].Named {
		return fmt.Sprintf("shop-%d", server)
	}
	return fmt.Sprintf("%s:%d", s.Host(server), Port)
}

// String tells the schedule in plain words, a line for each process and each step.
func (s Schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: etcd has %d members", s.Seed, s.Members)
	if s.Members == 1 {
		b.Reset()
		fmt.Fprintf(&b, "seed %d: etcd has 1 member", s.Seed)
	}
	if s.Auth {
		b.WriteString(" and asks for passwords")
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
	return b.String()
}

// Words tells a step.
func (s Schedule) Words(step Step) string {
	if k := find(step.Kind); k != nil {
		return k.says(s, step)
	}
	return fmt.Sprintf("unknown kind %q", step.Kind)
}

func (v Server) words(instance string) string {
	words := []string{"is " + instance, "keeps itself in etcd by " + string(v.Mode)}
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
	return strings.Join(words, ", ")
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
	return strings.Join(words, ", ")
}
