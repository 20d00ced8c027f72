package output

import (
	"fmt"
	"slices"
	"strings"
)

// Format is how a command writes what it has to say.
type Format string

// The formats.
const (
	FormatTable Format = "table"
	FormatJSON  Format = "json"
)

// Formats are the names of all formats.
var Formats = []string{string(FormatTable), string(FormatJSON)}

// Check returns an error for what is not a format.
func (f Format) Check() error {
	if !slices.Contains(Formats, string(f)) {
		return fmt.Errorf("--output %q: want %s", string(f), strings.Join(Formats, " or "))
	}
	return nil
}
