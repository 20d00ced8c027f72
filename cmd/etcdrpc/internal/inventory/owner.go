package inventory

import (
	"strconv"
	"strings"
)

// OwnerOf returns the key of the service of an entry. That is the key without the lease id at its end, if it is the entry's own
// lease and no mark such as "-" precedes it; else the part before the last slash.
func OwnerOf(e Entry) string {
	slash := max(strings.LastIndexByte(e.Key, '/'), 0)
	json := strings.HasPrefix(strings.TrimSpace(string(e.Value)), "{")
	if e.Lease != 0 && !json {
		marks := "/"
		if slash > 0 {
			marks = "/-_.:@"
		}
		stem, ok := strings.CutSuffix(e.Key, strconv.FormatInt(e.Lease, 10))
		if ok && stem != "" && !strings.ContainsAny(stem[len(stem)-1:], marks) {
			return stem
		}
	}
	return e.Key[:slash]
}
