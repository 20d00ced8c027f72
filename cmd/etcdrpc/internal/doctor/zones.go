package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
)

// maxZones bounds the zones that are compared with each other.
const maxZones = 256

// readZones finds the zones that are probably mistyped: they are spelled almost as a zone of more instances.
func (p *examination) readZones() {
	counts := make(map[string]int)
	for _, i := range inventory.Entries(p.services) {
		if i.Zone != "" && !i.Leaving() {
			counts[i.Zone]++
		}
	}
	p.zones = make(map[string]string)
	all := slices.Sorted(maps.Keys(counts))
	for _, zone := range all[:min(len(all), maxZones)] {
		for _, meant := range all[:min(len(all), maxZones)] {
			sameLetters := strings.EqualFold(zone, meant) && (counts[zone] < counts[meant] || counts[zone] == counts[meant] && zone < meant)
			if sameLetters && zone != meant || 3*counts[zone] <= counts[meant] && isAlmost(zone, meant) {
				p.zones[zone] = meant
			}
		}
	}
}

// mistypedZones finds instances whose zone is probably mistyped.
func (x *subject) mistypedZones() {
	for _, i := range x.clients.Instances {
		if meant := x.zones[i.Zone]; meant != "" {
			x.reportOnce(x.Key+" "+i.Zone, KindZone, "", fmt.Sprintf("the zone %q is spelled almost as %q, which more instances have: clients that prefer their own zone do not take one for the other", i.Zone, meant),
				"if they are one zone, give the servers the same name by runtime.WithZone; else --skip zone", i.Entry.Key)
		}
	}
}

// isAlmost reports whether two zones differ only by punctuation and case, or by one letter within a word. The ends of words
// and the numbers tell zones from each other: eu-1a and eu-1b.
func isAlmost(a, b string) bool {
	runs := func(zone string, of func(rune) bool) []string {
		return strings.FieldsFunc(strings.ToLower(zone), func(r rune) bool { return !of(r) })
	}
	x, y, edits := runs(a, unicode.IsLetter), runs(b, unicode.IsLetter), 0
	for n := range x {
		if len(x) == len(y) && isEdit(x[n], y[n]) {
			x[n] = y[n]
			edits++
		}
	}
	return a != b && edits < 2 && strings.Join(x, "") == strings.Join(y, "") && slices.Equal(runs(a, unicode.IsDigit), runs(b, unicode.IsDigit))
}

// isEdit reports whether one letter within a word is missing, swapped with the next or, in a long word, another.
func isEdit(a, b string) bool {
	length := max(len(a), len(b))
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	if len(a) < len(b) {
		a, b = b, a
	}
	return length > 3 && len(a) > 1 && (a[1:] == b || len(b) > 1 && (length > 4 && a[1:] == b[1:] || a[0] == b[1] && a[1] == b[0] && a[2:] == b[2:]))
}
