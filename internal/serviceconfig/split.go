package serviceconfig

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a split, against which each endpoint is matched at each update.
const (
	maxMatch      = 8  // names in one match
	maxMatchNames = 16 // different names in all matches
)

// Split is a group of endpoints and its share of the calls, relative to the other groups.
type Split struct {
	// Match maps "version", "zone", "instance", "addr" or the name of a piece of metadata to the
	// value that it must have. "" matches a name that an endpoint does not have.
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

// Matcher finds the first split that an endpoint matches. Each split is filed under one name of its
// match and the value, the pair that is rarest in all matches, so that a search looks up each name once
// rather than comparing with each split.
type Matcher struct {
	splits []Split
	files  []file
}

// file holds the splits that are filed under one name.
type file struct {
	name   string
	splits map[string][]int // indices, in order, by the value of the name
}

// NewMatcher returns a matcher of splits, which must not change afterwards.
func NewMatcher(splits []Split) *Matcher {
	m := &Matcher{splits: splits}
	type pair struct{ name, value string }
	common := map[pair]int{} // in how many matches a pair is
	for _, s := range splits {
		for name, value := range s.Match {
			common[pair{name, value}]++
		}
	}
	files := map[string]map[string][]int{}
	for i, s := range splits {
		var best pair
		for n, name := range slices.Sorted(maps.Keys(s.Match)) {
			p := pair{name, s.Match[name]}
			// Among equally rare pairs, one whose name is in use already saves a look-up.
			if n == 0 || common[p] < common[best] || common[p] == common[best] && files[best.name] == nil && files[p.name] != nil {
				best = p
			}
		}
		if files[best.name] == nil {
			files[best.name] = map[string][]int{}
		}
		files[best.name][best.value] = append(files[best.name][best.value], i)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		m.files = append(m.files, file{name, files[name]})
	}
	return m
}

// Match returns the index of the first split that an endpoint matches, -1 if there is none. get returns
// the endpoint's value of a name, "" if it has none.
func (m *Matcher) Match(get func(name string) string) int {
	first := -1
	for i := range m.files {
		for _, at := range m.files[i].splits[get(m.files[i].name)] {
			if first >= 0 && at >= first {
				break
			}
			if m.splits[at].matches(get) {
				first = at
				break
			}
		}
	}
	return first
}

func (s *Split) matches(get func(name string) string) bool {
	for name, want := range s.Match {
		if get(name) != want {
			return false
		}
	}
	return true
}

// checkSplit refuses groups that repeat an earlier one, too many names in all matches, and weights that are all zero.
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

// add adds the names of one match, and refuses too many. elements is the noun for the elements of the list.
func (m matchNames) add(p place, match map[string]string, elements string) {
	before := len(m)
	for name := range match {
		m[name] = true
	}
	if len(m) > maxMatchNames && before <= maxMatchNames {
		p.in("match").fault("has one name too many: want at most %d different names in all %s", maxMatchNames, elements)
	}
}
