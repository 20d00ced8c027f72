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

// Check returns what is wrong with a field, and the field's name in JSON, which is also its name in the proto.
func (r *Route) Check() (field string, err error) {
	switch {
	case r.Label != "" && (r.Lane != "" || r.Match != nil):
		return "label", errors.New("stands beside lane or match: an instance's lane is either named here or by the instance")
	case r.Label != "":
		return "", nil
	case r.Lane == "":
		return "lane", errors.New("is missing: name the lane and what its instances match, or the label that holds each instance's lane")
	case !ValidLane(r.Lane):
		return "lane", fmt.Errorf("%.60q is no lane: want %s", r.Lane, WantLane)
	case len(r.Match) == 0:
		return "match", errors.New("is missing: name what the instances of the lane have in common")
	}
	return "", nil
}

var routeFields = fields[Route]{
	"lane":   func(r *Route, v value) error { return assign(&r.Lane)(v.text()) },
	"match":  func(r *Route, v value) error { return assign(&r.Match)(readMatch(v)) },
	"label":  func(r *Route, v value) error { return assign(&r.Label)(v.text()) },
	"strict": func(r *Route, v value) error { return assign(&r.Strict)(v.bool()) },
}

func readRoutes(v value) ([]Route, error) {
	var routes []Route
	seen := map[string]bool{} // lanes and labels, each behind its field
	names := matchNames{}
	err := v.elements("routes", func(v value) error {
		if len(routes) == MaxRoutes {
			return fmt.Errorf("want at most %d routes", MaxRoutes)
		}
		r, err := readObject(v, routeFields)
		if err != nil {
			return err
		}
		if field, err := r.Check(); err != nil {
			return in(field, err)
		}
		field, name := "lane", r.Lane
		if r.Label != "" {
			field, name = "label", r.Label
		}
		if seen[field+name] {
			return in(field, errors.New("an earlier route has the same"))
		}
		seen[field+name] = true
		routes = append(routes, r)
		return names.add(r.Match, "routes")
	})
	return routes, err
}
