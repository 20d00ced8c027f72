package output

import (
	"fmt"
	"slices"
	"strings"
)

// Format is an output format.
type Format string

// The formats.
const (
	FormatTable Format = "table"
	FormatJSON  Format = "json"
)

// Formats are the names of the formats.
var Formats = []string{string(FormatTable), string(FormatJSON)}

// Check returns an error if f is not a format.
func (f Format) Check() error {
	if !slices.Contains(Formats, string(f)) {
		return fmt.Errorf("--output %q: want %s", string(f), strings.Join(Formats, " or "))
	}
	return nil
}
