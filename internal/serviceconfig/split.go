package serviceconfig

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// These bound a split, whose matches are compared with each endpoint at each update.
const (
	maxMatch = 8 // names in one match
	// MaxMatchNames bounds the different names in all matches.
	MaxMatchNames = 16
)

// Split is a group of endpoints and its share of the calls, relative to the other groups.
type Split struct {
	// Match maps "version", "zone", "instance", "addr" or the name of a piece of metadata to the
	// required value. "" matches an endpoint without the name.
	Match  map[string]string `json:"match" required:"true"`
	Weight uint32            `json:"weight"`
}

// Key returns a text that identifies the group's match. It does not depend on the weight.
func (s Split) Key() string {
	var key strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.Match)) {
		key.WriteString(strconv.Quote(name) + "=" + strconv.Quote(s.Match[name]) + ";")
	}
	return key.String()
}

// checkSplit rejects groups that repeat an earlier one, too many names in all matches, and weights that are all zero.
func checkSplit(p place, splits []Split) {
	total := uint64(0)
	seen := map[string]bool{}
	names := matchNames{}
	for i, s := range splits {
		if key := s.Key(); seen[key] {
			p.in(index(i), "match").fault("an earlier group has the same, and so all endpoints of this one")
		} else {
			seen[key] = true
		}
		total += uint64(s.Weight)
		names.add(p.in(index(i)), s.Match, "groups")
	}
	if len(splits) > 0 && total == 0 {
		p.fault("all weights are zero")
	}
}

// matchNames holds the names in all matches of a list.
type matchNames map[string]bool

// add adds the names of one match, and rejects too many. elements is the noun for the elements of the list.
func (m matchNames) add(p place, match map[string]string, elements string) {
	before := len(m)
	for name := range match {
		m[name] = true
	}
	if len(m) > MaxMatchNames && before <= MaxMatchNames {
		p.in("match").fault("has one name too many: want at most %d different names in all %s", MaxMatchNames, elements)
	}
}
