package schedule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
)

// Load reads a schedule that was kept in a file. It refuses fields that a schedule does not have: without them, one kept by another
// version might be only part of what it was.
func Load(path string) (Schedule, error) {
	var s Schedule
	text, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}
