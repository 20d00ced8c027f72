package serviceconfig

import (
	"errors"
	"fmt"
	"strings"
)

// MaxRoutes bounds the routes of a config.
const MaxRoutes = 64

// MaxLane is the greatest length of a lane's name, in bytes.
const MaxLane = 128

// Route says which instances are in a lane. Either Lane and Match are set, or Label.
type Route struct {
	Lane  string            `json:"lane,omitempty"`
	Match map[string]string `json:"match,omitempty"` // as in Split
	// Label is the field or metadata, named as in a match, whose value is the instance's lane.
	Label string `json:"label,omitempty"`
	// Strict has the calls of a lane fail while it has no ready instance. Otherwise they go to the instances in no
	// lane.
	Strict bool `json:"strict,omitempty"`
}

// ValidLane reports whether a text may be the name of a lane. What it accepts can be sent in a header.
func ValidLane(name string) bool {
	const legal = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/"
	return name != "" && len(name) <= MaxLane && strings.Trim(name, legal) == ""
}

// WantLane says what ValidLane accepts.
const WantLane = `at most 128 letters, digits and "-_.:/"`

func (r *Route) check() error {
	switch {
	case r.Label != "" && (r.Lane != "" || r.Match != nil):
		return in("label", errors.New("stands beside lane or match: an instance's lane is either named here or by the instance"))
	case r.Label != "":
		return nil
	case r.Lane == "":
		return in("lane", fmt.Errorf("%w: name the lane and what its instances match, or the label that holds each instance's lane", ErrMissing))
	case !ValidLane(r.Lane):
		return in("lane", fmt.Errorf("%.60q is no lane: want %s", r.Lane, WantLane))
	case len(r.Match) == 0:
		return in("match", fmt.Errorf("%w: name what the instances of the lane have in common", ErrMissing))
	}
	return nil
}

// identity returns the field that tells the route from others, and its value.
func (r *Route) identity() (field, name string) {
	if r.Label != "" {
		return "label", r.Label
	}
	return "lane", r.Lane
}

var routeFields = fields[Route]{
	"lane":   func(r *Route, v value) error { return assign(&r.Lane)(v.text()) },
	"match":  func(r *Route, v value) error { return assign(&r.Match)(readMatch(v)) },
	"label":  func(r *Route, v value) error { return assign(&r.Label)(v.text()) },
	"strict": func(r *Route, v value) error { return assign(&r.Strict)(v.bool()) },
}

func readRoutes(v value) ([]Route, error) {
	var routes []Route
	seen := map[[2]string]bool{}
	names := matchNames{}
	err := v.elements("routes", func(v value) error {
		r, err := readObject(v, routeFields)
		routes = append(routes, r)
		switch {
		case len(routes) == MaxRoutes+1:
			return fmt.Errorf("is one too many: want at most %d routes", MaxRoutes)
		case len(routes) > MaxRoutes:
			return nil // it has been said
		case err != nil:
			return err
		}
		if err := r.check(); err != nil {
			return err
		}
		field, name := r.identity()
		if seen[[2]string{field, name}] {
			return in(field, errors.New("is that of an earlier route"))
		}
		seen[[2]string{field, name}] = true
		return names.add(r.Match, "routes")
	})
	return routes, err
}
