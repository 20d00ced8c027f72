package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	for _, tt := range []struct {
		names string
		want  []string
	}{
		{"rest", []string{"rest"}},
		{"scale,cold", []string{"scale", "cold"}},
	} {
		chosen, err := choose(tt.names, 1, nil)
		var got []string
		for _, s := range chosen {
			got = append(got, s.Name)
		}
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, %v, want %q", tt.names, got, err, tt.want)
		}
	}
}

func TestChooseByDefault(t *testing.T) {
	if got, want := extras(), []string{"rest", "scale"}; !slices.Equal(got, want) {
		t.Errorf("by name alone: %q, want %q", got, want)
	}
	chosen, err := choose("", 5, nil)
	if err != nil || len(chosen) != len(all())-len(extras()) {
		t.Fatalf("%d scenarios, %v, want all but %q", len(chosen), err, extras())
	}
	for _, s := range chosen {
		if s.Extra {
			t.Errorf("%s runs without being named", s.Name)
		}
	}
}

func TestChooseRefuses(t *testing.T) {
	for _, tt := range []struct {
		names  string
		rounds int
		args   []string
		want   string
	}{
		{"", 0, nil, "-rounds 0"},
		{"rest", -1, nil, "-rounds -1"},
		{"", 5, []string{"rest"}, `no argument "rest"`},
		{"nothing", 5, nil, `no scenario "nothing"`},
		{"rest,", 5, nil, `no scenario ""`},
	} {
		_, err := choose(tt.names, tt.rounds, tt.args)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), strings.Join(all(), ", ")) {
			t.Errorf("%+v: error %v, want one of %s that names the scenarios", tt, err, tt.want)
		}
	}
}

// TestOnlyOneProgramLinksGoZero keeps its statistics, which run wherever it is linked, out of all other processes.
func TestOnlyOneProgramLinksGoZero(t *testing.T) {
	for program, want := range map[string]bool{".": false, "./cmd/gozero": true} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", program).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(out), "github.com/zeromicro/go-zero/"); got != want {
			t.Errorf("%s links go-zero: %v, want %v", program, got, want)
		}
	}
}
