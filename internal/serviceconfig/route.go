package serviceconfig

import "strings"

// LaneHeader is the request metadata that carries the lane of a call to the server.
const LaneHeader = "etcd-lane"

// MaxLane is the greatest length of a lane's name, in bytes.
const MaxLane = 128

// Route assigns instances to a lane. Either Lane and Match are set, or Label.
type Route struct {
	Lane  string            `json:"lane,omitempty"`
	Match map[string]string `json:"match,omitempty"` // as in Split
	// Label names the field or metadata, as in a match, that holds the instance's lane.
	Label string `json:"label,omitempty"`
	// Strict makes the calls of a lane fail while none of its instances is ready. Otherwise they go to the instances without a lane.
	Strict bool `json:"strict,omitempty"`
}

// ValidLane reports whether a text is a valid name of a lane, which can be sent in a header.
func ValidLane(name string) bool {
	const legal = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/"
	return name != "" && len(name) <= MaxLane && strings.Trim(name, legal) == ""
}

// WantLane describes the names that ValidLane accepts.
const WantLane = `at most 128 letters, digits and "-_.:/"`

func (r *Route) check(p place) {
	switch {
	case r.Label != "" && (r.Lane != "" || r.Match != nil):
		p.in("label").fault("stands beside lane or match: an instance's lane is either named here or by the instance")
	case r.Label != "":
	case r.Lane == "":
		p.in("lane").missing("name the lane and what its instances match, or the label that holds each instance's lane")
	case !ValidLane(r.Lane):
		p.in("lane").fault("%.60q is no lane: want %s", r.Lane, WantLane)
	case len(r.Match) == 0:
		p.in("match").missing("name what the instances of the lane have in common")
	}
}

// checkRoutes rejects routes that repeat an earlier one, and too many names in all matches.
func checkRoutes(p place, routes []Route) {
	seen := map[[2]string]bool{}
	names := matchNames{}
	for i, r := range routes {
		field, is := "lane", [2]string{r.Lane}
		if r.Label != "" {
			field, is = "label", [2]string{"", r.Label}
		}
		if seen[is] {
			p.in(index(i), field).fault("is that of an earlier route")
		}
		seen[is] = true
		names.add(p.in(index(i)), r.Match, "routes")
	}
}
