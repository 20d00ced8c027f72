package schedule

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// AwayName begins the names of the processes of the other region.
const AwayName = "away "

// Name returns the name of a process. Indices after the last process stand for
// the twins of the servers.
func (s Schedule) Name(process int) string {
	if s.Away {
		s.Away = false
		return AwayName + s.Name(process)
	}

	servers := len(s.Servers)
	callers := len(s.Callers)

	switch {
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

// Port is the port on which servers listen until they move.
const Port = 9000

// Instance returns the instance id of a server until the server moves.
func (s Schedule) Instance(server int) string {
	if s.Servers[server].Named {
		return fmt.Sprintf("shop-%d", server)
	}

	return fmt.Sprintf("%s:%d", s.Host(server), Port)
}

// String describes the schedule, with a line for each process and each step.
func (s Schedule) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, set(s))

	for i, v := range s.Servers {
		fmt.Fprintf(&b, "  %s is %s: %s\n", s.Name(i), s.Instance(i), set(v))
	}

	for i, v := range s.Callers {
		fmt.Fprintf(&b, "  %s: %s\n", s.Name(len(s.Servers)+i), set(v))
	}

	for i, v := range s.Writers {
		fmt.Fprintf(&b, "  %s: %s\n", s.Name(len(s.Servers)+len(s.Callers)+i), set(v))
	}

	for _, step := range s.Steps {
		fmt.Fprintf(&b, "%7.3f s  %s\n", step.At.Seconds(), s.Words(step))
	}

	if s.Other != nil {
		fmt.Fprintf(&b, "the other region: %v", s.Other)
	}

	return b.String()
}

// set describes the nonzero fields of a struct, except pointers and lists of
// structs.
func set(structure any) string {
	var words []string
	for field, value := range reflect.ValueOf(structure).Fields() {
		_, texts := value.Interface().([]string)
		own := value.Kind() == reflect.Pointer || value.Kind() == reflect.Slice && !texts
		if !own && !value.IsZero() {
			words = append(words,
				fmt.Sprintf("%s %v", strings.ToLower(field.Name), value))
		}
	}

	return strings.Join(words, ", ")
}

// choice matches a list of words in braces, from which N of a step chooses.
var choice = regexp.MustCompile(`\{[^{}]*\|[^{}]*\}`)

// Words describes a step in the words of the catalog.
func (s Schedule) Words(step Step) string {
	i := slices.IndexFunc(catalog, func(k kind) bool { return k.kind == step.Kind })
	if i < 0 {
		return fmt.Sprintf("unknown kind %q", step.Kind)
	}

	words := choice.ReplaceAllStringFunc(catalog[i].words, func(choice string) string {
		options := strings.Split(strings.Trim(choice, "{}"), "|")
		return options[min(step.N, len(options)-1)]
	})

	words = strings.NewReplacer(
		"{text}", step.Text,
		"{who}", s.Name(step.Who),
		"{whom}", s.Name(step.Whom),
		"{#who}", fmt.Sprint(step.Who),
		"{#whom}", fmt.Sprint(step.Whom),
		"{for}", step.For.String(),
		"{ms}", step.Milliseconds().String(),
		"{n}", fmt.Sprint(step.N),
		"{quoted}", fmt.Sprintf("%.80q", step.Text),
	).Replace(words)

	return strings.Join(strings.Fields(words), " ")
}
