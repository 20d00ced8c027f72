package survey

import (
	"strconv"
	"time"
)

// StartedText returns when a server started, as a time if it is one.
func StartedText(value string) string {
	seconds, err := strconv.ParseUint(value, 10, 33)
	if err != nil {
		return value
	}
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}
