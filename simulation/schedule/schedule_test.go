package schedule

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

func TestNew(t *testing.T) {
	seen := map[Kind]int{}
	said := ""
	configs := ""
	for seed := range uint64(500) {
		s := New(seed)
		if again := New(seed); !reflect.DeepEqual(s, again) {
			t.Fatalf("two schedules of seed %d differ:\n%v%v", seed, s, again)
		}

		if len(s.Steps) < fewest || s.Steps[0].At < warmUp || s.Steps[len(s.Steps)-1].At > length {
			t.Errorf("schedule of seed %d is invalid: %v", seed, s)
		}

		said += s.String()

		for _, c := range s.Callers {
			configs += c.Policy
		}

		for _, step := range s.Steps {
			seen[step.Kind]++

			if step.Kind == ConfigPut {
				configs += step.Text
			}
		}

		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}

		var back Schedule
		if err := json.Unmarshal(text, &back); err != nil || back.String() != s.String() {
			t.Errorf("schedule of seed %d after JSON:\n%v, %v, want it unchanged", seed, back, err)
		}
	}

	for _, words := range []string{
		AsNew + " after", Bumped, "too many", ForGood, ReadVotes, WriteVotes,
		"second true", "parts true", "line ", "own ", "ttl 15", "unready ",
		"at another port", "is killed, starts",
	} {
		if !strings.Contains(said, words) {
			t.Errorf("no schedule of 500 contains %q", words)
		}
	}

	for _, k := range catalog {
		if seen[k.kind] == 0 {
			t.Errorf("no schedule of 500 has the kind %q", k.kind)
		}
	}

	wanted := []string{"outlier_detection", "minHealthyPercent"}
	for _, f := range features {
		wanted = append(wanted, f.forms...)
	}

	for _, p := range serviceconfig.Picking {
		wanted = append(wanted, fmt.Sprintf("%q:{", p.Name))
	}

	for _, w := range ways {
		wanted = append(wanted, fmt.Sprintf("%q:{%s}", w.Name, w.config))
	}

	for _, text := range wanted {
		if !strings.Contains(configs, text) {
			t.Errorf("no service config of 500 schedules has %s", text)
		}
	}
}

func TestShrink(t *testing.T) {
	s := New(74) // with another region, and auth
	a := s.Steps[3]
	b := s.Steps[7]

	small := Shrink(s, func(t Schedule) bool {
		return t.Auth && slices.Contains(t.Steps, a) && slices.Contains(t.Steps, b)
	})
	steps := slices.Equal(small.Steps, []Step{a, b})
	if !steps || !small.Auth || small.Other != nil || s.Other == nil {
		t.Errorf("Shrink =\n%v, want auth, no other region, and the steps\n%v\n%v", small,
			s.Words(a), s.Words(b))
	}

	needless := func(v Server) bool { return v.Both || v.Newer || v.Layouts != nil }
	if slices.ContainsFunc(small.Servers, needless) {
		t.Errorf("the shrunk schedule has servers with needless properties:\n%v", small)
	}

	if len(s.Steps) == len(small.Steps) || New(74).String() != s.String() {
		t.Error("Shrink changed its argument")
	}
}
